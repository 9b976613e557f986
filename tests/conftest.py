"""What holds for all tests."""

from collections.abc import Iterator

import pytest
from mmengine.registry import DefaultScope


@pytest.fixture(autouse=True)
def no_scope_left_behind() -> Iterator[None]:
    """A Runner makes its config's default scope the current one; every test starts without.

    Also without that of a fixture which serves several tests.
    """
    DefaultScope._instance_dict.clear()
    yield
    DefaultScope._instance_dict.clear()
