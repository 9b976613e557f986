"""Check a config before anything is built, and report all problems at once."""

import difflib
import inspect
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec

import mmengine.registry
from mmengine.config import Config
from mmengine.registry import Registry
from mmengine.runner import Runner
from mmengine.utils import get_object_from_string

from .agreement import class_problems
from .arguments import (
    did_you_mean,
    missing_package,
    misspelled_settings,
    show,
    unknown_arguments,
)
from .model import model_problems
from .paths import Path_, items, missing_contours, missing_paths, walk_dicts
from .schedule import schedule_problems
from .shapes import shape_problems

# Importing these fills mmengine's root registries; mmcv may be missing or mmcv-lite.
ROOT_PARTS = ('mmengine._strategy', 'mmengine.visualization', 'mmcv.cnn', 'mmcv.transforms')

ROOTS: dict[str, Registry] = {
    name: value for name, value in vars(mmengine.registry).items() if isinstance(value, Registry)
}

# The key nearest to a part says which registry is asked first; it only saves imports.
HINTS = {
    'pipeline': 'TRANSFORMS',
    'transforms': 'TRANSFORMS',
    'dataset': 'DATASETS',
    'datasets': 'DATASETS',
    'sampler': 'DATA_SAMPLERS',
    'collate_fn': 'FUNCTIONS',
    'val_evaluator': 'METRICS',
    'test_evaluator': 'METRICS',
    'custom_hooks': 'HOOKS',
    'default_hooks': 'HOOKS',
    'model': 'MODELS',
    'optimizer': 'OPTIMIZERS',
    'param_scheduler': 'PARAM_SCHEDULERS',
    'visualizer': 'VISUALIZERS',
    'vis_backends': 'VISBACKENDS',
}

# Inside other packages' parts, a `type` need not name a part: `roi_layer=dict(type='RoIAlign')` is
# an attribute of mmcv.ops, `nms=dict(type='nms')` a function. There, only what stands under these
# keys, or is written with a scope, is held to be a part.
ALWAYS_PARTS = 'backbone neck cls_head decode_head roi_head data_preprocessor dataset'.split()
OWN_PACKAGES = ('bimm_mm', 'mmengine')

_FAILED: dict[str, Exception] = {}  # by scope: why some of its parts were not imported

RUNNER_KEYS = set(inspect.signature(Runner.__init__).parameters) - {'self', 'cfg'}
RUNNER_KEYS |= {'strategy', 'runner_type', 'model_wrapper_cfg', 'find_unused_parameters', 'sync_bn'}
# What tools read of a config besides, and mmengine when it reads the file.
TOOL_KEYS = {
    'tta_model',
    'tta_pipeline',
    'probe_train',
    'probe_test',
    'probe_labels',
    'retrieval_dataloader',
    'custom_imports',
}

_NOT_INSTALLED = 'which is not installed'


class ConfigError(ValueError):
    """Error of a config that cannot be run; the message lists every reason."""


def check_options(cfg: Config, options: dict) -> None:
    """Check that overrides (``--cfg-options``) match something in the config.

    Args:
        cfg: The config before the overrides are merged into it.
        options: ``{'train_dataloader.batch_size': 4, ...}``.

    Raises:
        ConfigError: A first key that is neither in the config nor an argument of the Runner.
    """
    known = {*cfg.keys(), *RUNNER_KEYS}
    problems = [
        f'--cfg-options {key}: the config has no {first!r}' + did_you_mean(_near(first, known))
        for key in options
        if (first := key.split('.')[0]) not in known
    ]
    _raise_if_any(problems, cfg)


def check_config(cfg: Config, loops: Sequence[str] = ('train', 'val')) -> None:
    """Check every part, its arguments and every path in a config that is about to be run.

    A part (a dict with a ``type``) must be found in some registry of its scopes: the prefix of
    its name, those of the parts around it, ``default_scope``, and mmengine's root, take the
    arguments that are given, and find the packages it imports. Settings of the data loaders, and
    those at the top that are nearly one of the Runner's, must be spelt right, the sizes in the
    model and of clips fit together, the numbers of classes agree, and the schedules of the learning
    rate fit the length of the run. Annotation files, data folders, checkpoints and caches of
    contours on the local disk must exist.

    Args:
        cfg: The config with all overrides merged.
        loops: Those of 'train', 'val' and 'test' that will run; the settings of the others are not
            looked at.

    Raises:
        ConfigError: With one line for each problem: where it stands in the config, the value, and
            names close to it or the path that was looked for.
    """
    unused = tuple(f'{loop}_' for loop in ('train', 'val', 'test') if loop not in loops)
    used = {k: v for k, v in cfg.items() if k in RUNNER_KEYS and not k.startswith(unused)}
    scope = cfg.get('default_scope') or 'mmengine'
    _raise_if_any(shape_problems(used), cfg)  # what follows looks into lists
    contours = missing_contours(walk_dicts(used, ()), cfg.filename)
    misspelled = misspelled_settings(cfg, used, RUNNER_KEYS)
    problems = [*unknown_parts(used, scope), *misspelled, *missing_paths(used), *contours]
    problems += worker_problems(used) + class_problems(cfg, loops)
    if 'train' in loops:
        problems += schedule_problems(cfg)
    if cfg.get('model') and not any(problem.startswith('model') for problem in problems):
        problems += model_problems(cfg)
    _raise_if_any(problems, cfg)


def worker_problems(cfg: dict) -> list[str]:
    """Return a line for each data loader that asks for what only worker processes can do."""
    return [
        f'{name}.{key}={loader[key]!r} needs num_workers of at least 1, but it is 0: set '
        f'{name}.{key}={default} as well'
        for name, loader in cfg.items()
        if name.endswith('_dataloader') and isinstance(loader, dict)
        if loader.get('num_workers', 0) == 0
        for key, default in (('persistent_workers', False), ('prefetch_factor', None))
        if loader.get(key)
    ]


def unknown_parts(node: object, scope: str = 'mmengine') -> list[str]:
    """Return a line for each ``type`` below ``node`` that is in no registry of its scopes."""
    for name in ROOT_PARTS:
        _try_import(name)
    return list(_unknown_parts(node, (), tuple(dict.fromkeys((scope, 'mmengine'))), strict=True))


def _unknown_parts(
    node: object, path: Path_, scopes: tuple[str, ...], strict: bool
) -> Iterator[str]:
    """As above; ``scopes``: where a name may be meant; not ``strict``: see ALWAYS_PARTS."""
    kind = node.get('type') if isinstance(node, dict) else None
    if isinstance(kind, str):
        prefix = node.get('_scope_') or kind.rpartition('.')[0]
        scopes = tuple(dict.fromkeys((prefix, *scopes))) if _is_scope(prefix) else scopes
        found = _find(kind, scopes, path)
        package = missing_package(kind)
        if package:
            yield f'{show((*path, "type"), kind)} needs the package {package!r}, {_NOT_INSTALLED}'
        if found is not None and (strict or path[-2:-1] == ('pipeline',)):
            yield from unknown_arguments(node, found, path)
        if found is not None:
            strict = getattr(found, '__module__', '').split('.')[0] in OWN_PACKAGES
        elif strict or prefix or _is_always_part(path):
            yield f'{show((*path, "type"), kind)} {_why(kind, scopes)}'
            strict = not prefix
    for key, value in items(node):
        yield from _unknown_parts(value, (*path, key), scopes, strict)


# Looking up -------------------------------------------------------------------------------------


def _is_scope(name: str) -> bool:
    return name.isidentifier() and bool(_registries(name))


def _is_always_part(path: Path_) -> bool:
    return bool(path) and (path[-1] in ALWAYS_PARTS or path[-2:-1] == ('pipeline',))


def _find(kind: str, scopes: tuple[str, ...], path: Path_) -> object | None:
    """Find what ``kind`` names: a part of a scope, or any object by its full import path."""
    prefix, _, name = kind.rpartition('.')
    if prefix:
        return (_is_scope(prefix) and _find_in(name, prefix, path)) or _find_object(kind)
    found = (_find_in(name, scope, path) for scope in scopes)
    return next((part for part in found if part is not None), None)


def _find_in(name: str, scope: str, path: Path_) -> object | None:
    """Find the part ``name`` in any registry of ``scope``; the likeliest one is filled first."""
    registries = _registries(scope)
    hint = next((HINTS[key] for key in reversed(path) if key in HINTS), None)
    if hint in registries:
        registries = {hint: registries[hint]} | registries
    for registry in registries.values():
        if name in registry.module_dict:
            return registry.module_dict[name]
    for registry in registries.values():
        try:
            registry.import_from_location()
        except Exception as error:  # what cannot be imported here has no parts to offer
            _FAILED[scope] = error
            continue
        if name in registry.module_dict:
            return registry.module_dict[name]
    return None


def _registries(scope: str) -> dict[str, Registry]:
    if scope == 'mmengine':
        return ROOTS
    _try_import(f'{scope}.registry')
    return {name: root.children[scope] for name, root in ROOTS.items() if scope in root.children}


def _find_object(name: str) -> object | None:
    try:
        return get_object_from_string(name)
    except Exception:
        return None


def _try_import(name: str) -> None:
    try:
        import_module(name)
    except Exception:  # what is missing is reported by the names that are then not found
        pass


# Saying it --------------------------------------------------------------------------------------


def _why(kind: str, scopes: tuple[str, ...]) -> str:
    prefix, _, name = kind.rpartition('.')
    package = prefix.split('.')[0]
    if package and not _is_scope(package) and find_spec(package) is None:
        return f'needs the package {package!r}, {_NOT_INSTALLED}'
    asked = (package,) if package else scopes
    known = {
        key if scope == 'mmengine' else f'{scope}.{key}': None
        for root in ROOTS.values()
        for scope, registry in ({'mmengine': root} | root.children).items()
        for key in registry.module_dict
    }
    for scope in asked:  # what was registered before the import of the others failed
        known.pop(f'{scope}.{name}', None)
    same = [key for key in known if key.rpartition('.')[2] == name]
    failed = [f'. Parts of {s} cannot be imported: {_FAILED[s]}' for s in asked if s in _FAILED]
    where = ' or '.join(asked) + ''.join(failed)
    return f'is in no registry of {where}' + did_you_mean(same or _near(kind, known))


def _near(name: str, known: Iterable[str]) -> list[str]:
    by_lower = {k.lower(): k for k in known}
    return [by_lower[k] for k in difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.7)]


def _raise_if_any(problems: list[str], cfg: Config) -> None:
    if problems:
        count = '1 problem' if len(problems) == 1 else f'{len(problems)} problems'
        raise ConfigError('\n  '.join([f'{count} in {cfg.filename or "the config"}:', *problems]))
