"""A recipe's variables, set from outside: the file is evaluated with them.

``num_classes = 5`` at the top of a recipe is read in six places below it. mmengine merges
``--cfg-options`` into what the file has become, when all of them are written; there, another
``num_classes`` would change nothing. So a recipe is evaluated once more, with the new value in the
place of the old one, in every file of the recipe that sets it.
"""

import ast
import tempfile
import traceback
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from mmengine.config import Config

BASE = '_base_'


class RecipeError(ValueError):
    """Error of a config file that cannot be evaluated."""


def set_variables(path: Path, values: Mapping[str, object]) -> Config:
    """The config file at ``path``, evaluated with other values of its variables.

    Args:
        path: A Python file, whose bases are Python files, too.
        values: New values by name, plain ones: numbers, texts, lists, dicts.

    Raises:
        RecipeError: One of them cannot be used.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = _write_copy(path, Path(folder), values)
        cfg = read_file(copy, path)
    return Config(cfg.to_dict(), cfg.text, str(path), cfg.env_variables)


def read_file(file: Path, path: Path | None = None) -> Config:
    """Read a config file; where it fails, say in which statement.

    Args:
        file: The file.
        path: What it is called in messages, if it is a copy.

    Raises:
        ImportError: A module that it names in ``custom_imports``.
        RecipeError: Anything else: a name or a syntax that is wrong, a base that is missing, ...
    """
    try:
        return Config.fromfile(file)
    except ImportError:
        raise
    except Exception as error:
        place, statement, read = f'{path or file}', '', None
        for frame, line in traceback.walk_tb(error.__traceback__):
            if frame.f_code.co_name == '_file2dict':  # mmengine's, which reads each base in turn
                read = Path(frame.f_locals['filename'])
            elif frame.f_code.co_name == 'import_modules_from_strings':  # mmengine's
                raise ImportError(str(error)) from error
            elif frame.f_code.co_filename == str(read):
                place = place if path else f'{read}, line {line}'
                statement = f', in: {read.read_text().splitlines()[line - 1].strip()}'
        raise RecipeError(f'{place}: {type(error).__name__}: {error}{statement}') from error


def variables_of(path: Path) -> dict[str, bool]:
    """The names that a recipe's files set at their top level, and whether one of them reads each.

    Read is a name in an expression of the file that sets it, or as ``_base_.name`` in a file that
    inherits from it.
    """
    names: dict[str, bool] = {}
    later: set[str] = set()  # read by files further down
    for file in files_of(path):
        tree = _parse(file)
        here = set(_assigned(tree))
        reads = {node.id for node in ast.walk(tree) if _is(node, ast.Name)}
        for name in here:
            names[name] = names.get(name, False) or name in reads or name in later
        later |= {node.attr for node in ast.walk(tree) if _is(node, ast.Attribute)}
    names.pop(BASE, None)
    return names


def overshadowed(path: Path, merged: Collection[str] = ()) -> Iterator[tuple[str, Path]]:
    """Names that a file sets, but only a base of it reads, with the base.

    The base was evaluated before, with a value of its own: the assignment changes nothing.

    Args:
        path: The file.
        merged: Names to leave out, since a Runner reads what they have become.
    """
    first, *bases = files_of(path)
    tree = _parse(first)
    reads = {node.id for node in ast.walk(tree) if _is(node, ast.Name)}
    for base in bases:
        base_tree = _parse(base)
        base_reads = {node.id for node in ast.walk(base_tree) if _is(node, ast.Name)}
        names = set(_assigned(tree)) & set(_assigned(base_tree)) & base_reads
        for name in sorted(names - reads - {BASE, *merged}):
            yield name, base


def files_of(path: Path) -> list[Path]:
    """A recipe's file and those that it inherits from, the file itself first.

    Bases in other packages (``mmdet::...``) are left out: their variables are not ours to set.
    """
    found = [path]
    for base in _bases(_parse(path)):
        if '::' not in base:
            found += files_of((path.parent / base).resolve())
    return found


def _write_copy(path: Path, folder: Path, values: Mapping[str, object]) -> Path:
    """Copy a file and its bases into a folder, with other values of variables."""
    tree = _parse(path)
    bases = [
        base if '::' in base else str(_write_copy((path.parent / base).resolve(), folder, values))
        for base in _bases(tree)
    ]
    values = dict(values) | {BASE: bases}
    body = []
    for node in tree.body:  # each assignment is followed by that of the new value
        body.append(node)
        body += [
            ast.parse(f'{name} = {values[name]!r}').body[0]
            for name in _targets(node)
            if name in values
        ]
    # mmengine reads the first assignment of _base_, which must be the new one
    tree.body = [n for n in body if not (BASE in _targets(n) and n in tree.body)]
    with tempfile.NamedTemporaryFile('w', suffix='.py', dir=folder, delete=False) as file:
        file.write(ast.unparse(tree))
    return Path(file.name)


def _parse(path: Path) -> ast.Module:
    """A file's code, in which mmengine's ``{{...}}`` have become what they stand for."""
    with tempfile.TemporaryDirectory() as folder:
        copy = str(Path(folder) / 'config.py')
        Config._substitute_predefined_vars(str(path), copy)
        Config._substitute_env_variables(copy, copy)
        return ast.parse(Path(copy).read_text())


def _bases(tree: ast.Module) -> list[str]:
    """What ``_base_`` names."""
    for node in tree.body:
        if BASE in _targets(node):
            bases = ast.literal_eval(node.value)
            return [bases] if isinstance(bases, str) else list(bases)
    return []


def _assigned(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        yield from _targets(node)


def _targets(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Assign):
        for target in node.targets:  # a name, or several: a, b = 1, 2
            yield from (name.id for name in ast.walk(target) if _is(name, ast.Name, ast.Store))


def _is(node: ast.AST, kind: type, context: type = ast.Load) -> bool:
    return isinstance(node, kind) and isinstance(node.ctx, context)
