"""The rooms of the package: who imports whom, and how long a module is."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / 'bimm_mm'
FILES = sorted(PACKAGE.rglob('*.py'))

# A room imports from lower floors only; rooms of one floor do not import each other.
FLOORS = (
    ('version', 'utils'),
    ('compat', 'video'),
    ('captions', 'codes', 'contours'),
    ('models', 'datasets'),
    ('config',),
    ('evaluation', 'visualization'),
    ('engine',),
    ('apis', 'preflight', 'studies'),
    ('cli',),
    ('__main__',),
)
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
LONGEST = 400  # lines


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


MODULES = {name_of(path): path for path in FILES}


def imports_of(path: Path, everywhere: bool) -> Iterator[str]:
    """Modules of the package that a module imports: at its top, or in its functions as well."""
    tree = ast.parse(path.read_text())
    package = name_of(path).split('.')
    if path.name != '__init__.py':
        package = package[:-1]
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            module = '.'.join([*base, *filter(None, [node.module])])
            names = [f'{module}.{alias.name}' for alias in node.names]
        else:
            continue
        for name in names:
            name = name if name in MODULES else name.rpartition('.')[0]
            if name in MODULES:
                yield name


def room_of(module: str) -> str | None:
    """The first name below the package; None for the package itself."""
    return (module.split('.') + [None])[1]


def test_every_room_has_a_floor():
    assert {room_of(name) for name in MODULES} - {None} <= set(FLOOR_OF)


@pytest.mark.parametrize('room', FLOOR_OF)
def test_a_room_imports_from_lower_floors_only(room):
    higher = {
        (name, imported)
        for name, path in MODULES.items()
        if room_of(name) == room
        for imported in imports_of(path, everywhere=True)
        if room_of(imported) not in (room, None)
        if FLOOR_OF[room_of(imported)] >= FLOOR_OF[room]
    }
    assert not higher


def test_modules_do_not_import_each_other_in_circles():
    # `from . import x` in an __init__ is how a package offers its modules, not a dependency
    graph = {
        name: {m for m in imports_of(path, everywhere=False) if m != name}
        for name, path in MODULES.items()
        if path.name != '__init__.py'
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(' -> '.join(error.args[1]))


@pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_can_be_read_in_one_go(path):
    assert len(path.read_text().splitlines()) <= LONGEST
