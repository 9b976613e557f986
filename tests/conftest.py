"""What holds for all tests."""

from collections.abc import Iterator

import pytest
from mmengine.registry import DefaultScope


@pytest.fixture(autouse=True)
def no_scope_left_behind() -> Iterator[None]:
    """A Runner makes its config's default scope the current one; the next test starts without."""
    before = dict(DefaultScope._instance_dict)
    yield
    DefaultScope._instance_dict.clear()
    DefaultScope._instance_dict.update(before)
