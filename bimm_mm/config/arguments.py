"""Find misspelled arguments and missing packages in a config without building its parts."""

import difflib
import inspect
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec

from torch.utils.data import DataLoader

Path_ = tuple[str | int, ...]

# What mmengine takes out of a part's settings before it builds the part.
TAKEN = {'type', '_scope_', '_delete_'}
TAKEN_UNDER = {
    'default_hooks': {'priority'},
    'custom_hooks': {'priority'},
    'optim_wrapper': {'constructor', 'paramwise_cfg'},
    'param_scheduler': {'convert_to_iter_based', 'epoch_length'},
}

# mmengine's DataLoader settings besides torch's.
LOADER = set(inspect.signature(DataLoader).parameters) | {
    'num_batch_per_epoch',
    'disable_subprocess_warning',
}

# Packages that parts import only when they are used.
PACKAGES = {
    'DecordInit': 'decord',
    'DecordDecode': 'decord',
    'PyAVInit': 'av',
    'VideoInit': 'av',
    'AvInit': 'av',
    'TensorboardVisBackend': 'tensorboard',
    'WandbVisBackend': 'wandb',
    'MLflowVisBackend': 'mlflow',
}


def missing_package(kind: str) -> str | None:
    """Return the package that the part ``kind`` imports, if it is not installed."""
    package = PACKAGES.get(kind.rpartition('.')[2])
    return package if package and find_spec(package) is None else None


def unknown_arguments(node: dict, part: object, path: Path_) -> Iterator[str]:
    """Yield a line for each setting of a part that it does not accept.

    Where a class hands ``**kwargs`` on, only what is nearly the name of another argument is
    reported, since nobody can tell what else is taken.

    Args:
        node: The part's settings.
        part: The class or function that they are passed to.
        path: Where it stands in the config.
    """
    names, is_open = accepted_arguments(part)
    taken = TAKEN | TAKEN_UNDER.get(path[0] if path else '', set())
    for key in node:
        if key in names or key in taken:
            continue
        near = _near(key, names)
        if near or not is_open:
            what = f'{node["type"]} takes no such argument' + did_you_mean(near)
            yield f'{show((*path, key), node[key])}: {what}'


def misspelled_settings(cfg: dict, used: dict, known: set[str]) -> Iterator[str]:
    """Yield a line for each unknown setting of a data loader or at the top level.

    At the top anything may stand, to be used elsewhere in the config. So only what is nearly the
    name of a setting of the Runner is reported.

    Args:
        cfg: The config.
        used: What of it the run will use.
        known: Names that the Runner reads.
    """
    for name, loader in used.items():
        if name.endswith('_dataloader') and isinstance(loader, dict):
            for key in set(loader) - LOADER - TAKEN:
                what = 'a data loader has no such setting' + did_you_mean(_near(key, LOADER))
                yield f'{show((name, key), loader[key])}: {what}'
    for key in set(cfg) - known:
        near = difflib.get_close_matches(key, known - set(cfg), n=1, cutoff=0.87)
        if near:
            yield f'{key}: nobody reads this setting' + did_you_mean(near)


def accepted_arguments(part: object) -> tuple[set[str], bool]:
    """Return the argument names of a class or function, and whether it accepts others."""
    names: set[str] = set()
    functions = [part]
    if inspect.isclass(part):
        functions = [vars(c)['__init__'] for c in part.__mro__ if '__init__' in vars(c)]
    for number, function in enumerate(functions):
        try:
            parameters = inspect.signature(function).parameters.values()
        except (TypeError, ValueError):  # made in C
            return names, True
        names |= {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return names, number > 0
    return names, True


def _near(key: str, names: Iterable[str]) -> list[str]:
    return difflib.get_close_matches(key, list(names), n=2, cutoff=0.75)


def did_you_mean(names: Sequence[str]) -> str:
    """Return the end of a message with suggestions; empty without names."""
    return f'; did you mean {" or ".join(names)}?' if names else ''


def show(path: Path_, value: object) -> str:
    """Format the place of a value in a config, as ``model.decoders[0].type='LinearDecoder'``."""
    text = ''.join(f'[{key}]' if isinstance(key, int) else f'.{key}' for key in path)
    return f'{text.lstrip(".")}={value!r}'
