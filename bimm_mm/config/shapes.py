"""Find settings whose value is not of the kind that is needed: text for a list, 0 for a number."""

from collections.abc import Iterator

from mmengine.config import Config

from .arguments import Path_, show
from .paths import items, walk_dicts

# Lists of parts, and an example of each.
LISTS = {
    'custom_hooks': "dict(type='EMAHook')",
    'vis_backends': "dict(type='TensorboardVisBackend')",
    'pipeline': "dict(type='Flip')",
}
# Whole numbers, and the least that makes sense.
NUMBERS = {'batch_size': 1, 'num_workers': 0, 'max_epochs': 1, 'max_iters': 1, 'val_interval': 1}
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader', 'train_cfg')


def shape_problems(cfg: Config | dict) -> list[str]:
    """Return a line for each setting below ``cfg`` whose value cannot be meant.

    Lists of parts must be lists of dicts, numbers of samples, workers and epochs whole numbers, and
    Python's ``...`` stands nowhere.
    """
    problems = [*_ellipses(cfg, ())]
    for path, part in walk_dicts(dict(cfg)):
        problems += [line for key in part if key in LISTS for line in _not_a_list(part, path, key)]
        if path[:1] and path[0] in LOADERS and len(path) == 1:
            for key in NUMBERS.keys() & part.keys():
                value, least = part[key], NUMBERS[key]
                whole = isinstance(value, int) and not isinstance(value, bool)
                if value is not None and not (whole and value >= least):
                    must = f'must be a whole number of at least {least}'
                    problems.append(f'{show((*path, key), value)} {must}')
    return problems


def _not_a_list(part: dict, path: Path_, key: str) -> Iterator[str]:
    value, example = part[key], LISTS[key]
    if value is None:
        return
    if not isinstance(value, list | tuple):
        yield f'{show((*path, key), value)} must be a list of dicts, as [{example}]'
        return
    for index, item in enumerate(value):
        if isinstance(item, str | int | float | bool):
            yield f'{show((*path, key, index), item)} must be a dict, as {example}'


def _ellipses(node: object, path: Path_) -> Iterator[str]:
    if node is Ellipsis:
        yield (
            f'{show(path, node)}: Python\'s "..." is no value; in a config, what a base has is '
            'taken over by _base_.custom_hooks + [dict(...)]'
        )
    for key, value in items(node):
        yield from _ellipses(value, (*path, key))
