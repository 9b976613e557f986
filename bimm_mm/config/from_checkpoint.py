"""The config that a checkpoint was trained with, read from its metadata without running code."""

import ast
import os
from importlib import import_module

from mmengine.config import Config

from ..utils.checkpoint import read_checkpoint
from .check import ConfigError
from .paths import walk_dicts

# Packages whose parts, and whose modules, a checkpoint may name.
PACKAGES = ('bimm_mm', 'mmengine', 'mmcv', 'mmaction', 'mmpretrain', 'mmdet', 'mmseg')
_NUMBERS = dict(inf=float('inf'), nan=float('nan'))


def config_of_checkpoint(path: str | os.PathLike) -> Config:
    """Return the config that a Runner wrote into a checkpoint.

    A checkpoint may come from anybody. Its config is read as plain values, may name only
    registered parts, and imports only modules of the OpenMMLab packages and this one.

    Raises:
        ConfigError: There is none in it, or one that is more than that; the message says what.
        FileNotFoundError, ValueError: There is no such file, or it is not a checkpoint.
    """
    text = (read_checkpoint(path).get('meta') or {}).get('cfg')
    if not isinstance(text, str) or not text.strip():
        raise ConfigError(
            f'{path} does not say with which config it was trained; give the config as well'
        )
    try:
        values = parse_config(text)
    except (SyntaxError, ValueError) as error:
        raise ConfigError(f'the config in {path}: {error}; give the config as well') from error
    for module in _foreign(values):
        raise ConfigError(
            f'the config in {path} names {module}, which is not taken on the word of a checkpoint; '
            'give the config as well'
        )
    for module in (values.get('custom_imports') or {}).get('imports', []):
        import_module(module)
    return Config(values)


def parse_config(text: str) -> dict:
    """Evaluate the text of a config, ``name = value`` with plain values, as mmengine formats it.

    Raises:
        SyntaxError: It is not Python.
        ValueError: Something in it is neither a plain value nor ``dict(...)``.
    """
    values = {}
    for node in ast.parse(text).body:
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
            raise ValueError(f'line {node.lineno} is not of the form name = value')
        values[node.targets[0].id] = _value(node.value)
    return values


def _value(node: ast.expr) -> object:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.List):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_value(item) for item in node.elts)
    if isinstance(node, ast.Set):
        return {_value(item) for item in node.elts}
    if isinstance(node, ast.Dict) and None not in node.keys:
        pairs = zip(node.keys, node.values, strict=True)
        return {_value(key): _value(value) for key, value in pairs}
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand)
    if isinstance(node, ast.Name) and node.id in _NUMBERS:
        return _NUMBERS[node.id]
    is_dict = isinstance(node, ast.Call) and getattr(node.func, 'id', None) == 'dict'
    if is_dict and not node.args and all(keyword.arg for keyword in node.keywords):
        return {keyword.arg: _value(keyword.value) for keyword in node.keywords}
    raise ValueError(f'line {node.lineno} has something that is not a plain value')


def _foreign(values: dict) -> list[str]:
    """Types and imports that are not names of parts in the packages above."""
    found = []
    for _, part in walk_dicts(values):
        kind = part.get('type')
        if isinstance(kind, str) and '.' in kind:
            package, _, name = kind.partition('.')
            if package not in PACKAGES or not name.isidentifier() or not name[0].isupper():
                found.append(f'type={kind!r}')
    imports = (values.get('custom_imports') or {}).get('imports', [])
    modules = [imports] if isinstance(imports, str) else imports
    found += [f'the import {m!r}' for m in modules if m.partition('.')[0] not in PACKAGES]
    return found
