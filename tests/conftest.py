"""What holds for all tests."""

import gc
import signal
import sys
from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

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


@pytest.fixture(autouse=True)
def garbage_is_collected() -> Iterator[None]:
    """A run that is stopped leaves the automatic collection off, as its process ends, too."""
    gc.enable()
    yield
    gc.enable()


HANDLERS = {
    number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
}


@pytest.fixture(autouse=True)
def signals_reach_the_test_run() -> Iterator[None]:
    """A run that is stopped leaves its signal handlers, as its process ends, too.

    Also that of a fixture which serves several tests.
    """
    for number, handler in HANDLERS.items():
        signal.signal(number, handler)
    yield
    for number, handler in HANDLERS.items():
        signal.signal(number, handler)


@pytest.fixture(scope='session')
def load_script() -> Callable[[str], ModuleType]:
    """A function that imports a script anew, as in ``load_script('tools/train.py')``."""

    def load(path: str) -> ModuleType:
        file = Path(__file__).parents[1] / path
        spec = spec_from_file_location(f'script_{file.stem}', file)
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope='session')
def call_tool(load_script) -> Callable[..., object]:
    """A function that runs a tool in this process, as its command line would."""

    def call(path: str, *arguments: object) -> object:
        before = sys.argv
        sys.argv = [Path(path).name, *map(str, arguments)]
        try:
            return load_script(path).main()
        finally:
            sys.argv = before

    return call
