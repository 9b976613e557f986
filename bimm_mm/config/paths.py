"""Find the files and folders that a config names and that do not exist."""

import os
from collections.abc import Iterable, Iterator
from glob import glob
from pathlib import Path

from ..contours.cache import missing_cache
from ..contours.format import MANIFEST
from ..utils.commands import command
from .arguments import Path_, show

_PACKAGE = Path(__file__).parents[1]
# Recipes: those of the repository, or in an installed package the copy that mmengine looks for.
CONFIGS = next(
    folder
    for folder in (_PACKAGE.parent / 'configs', _PACKAGE / '.mim' / 'configs')
    if folder.is_dir() or folder.parent.name == '.mim'
)
CHECKPOINT_KEYS = ('load_from', 'init_from', 'init_dorsal_from', 'checkpoint')


def missing_paths(node: dict) -> list[str]:
    """Return a line for each local file or folder named below ``node`` that does not exist."""
    problems = []
    for path, part in walk_dicts(node):
        for key in CHECKPOINT_KEYS:
            if _is_missing(part.get(key)):
                text = _no_such('file', (*path, key), part[key], part[key])
                more = without_stage_1(part[key]) if key == 'init_dorsal_from' else ''
                problems.append(text + more)
        in_evaluator = bool(path) and str(path[0]).endswith('_evaluator')
        if in_evaluator and _is_local(part) and _is_missing(part.get('ann_file')):
            ann_file = part['ann_file']
            problems.append(_no_such('file', (*path, 'ann_file'), ann_file, ann_file))
        if not any('dataloader' in str(key) for key in path) or not _is_local(part):
            continue
        root = part.get('data_root') or ''
        if _is_missing(root):
            problems.append(_no_such('folder', (*path, 'data_root'), root, root))
            continue
        if _is_missing(part.get('ann_file'), root):
            full = os.path.join(root, part['ann_file'])
            problems.append(_no_such('file', (*path, 'ann_file'), part['ann_file'], full))
        for key in ('exclude_file', 'label_file', 'proposal_file'):  # AVA's, without the root
            if _is_missing(part.get(key)):
                problems.append(_no_such('file', (*path, key), part[key], part[key]))
        captions = part.get('caption_file')  # a file, or a pattern of several
        if _is_missing(captions) and not glob(captions):
            problems.append(_no_such('file', (*path, 'caption_file'), captions, captions))
        prefix = part.get('data_prefix') or {}
        for key, value in (prefix if isinstance(prefix, dict) else {None: prefix}).items():
            if _is_missing(value, root):
                where = (*path, 'data_prefix') if key is None else (*path, 'data_prefix', key)
                problems.append(_no_such('folder', where, value, os.path.join(root, value)))
    return problems


def without_stage_1(checkpoint: str) -> str:
    """Explain the three ways on if a joint run lacks the checkpoint of its ventral stage.

    Args:
        checkpoint: The missing file. Named as a recipe writes it,
            ``work_dirs/<recipe>/epoch_N.pth``, it tells the recipe.
    """
    recipe = Path(checkpoint).parent.name
    size = 'l' if 'vitl' in recipe else 'b'
    found = sorted(CONFIGS.rglob(f'{recipe}.py')) if recipe else []
    stage_1 = found[0] if found else CONFIGS / f'bimm/ventral_in1k_vit{size}.py'
    launch, imported = command('dist-train', 'dist_train.sh'), f'mae_vit{size}.pth'
    # bimm finds a recipe by its bare name
    config = stage_1.stem if launch.startswith('bimm') else os.path.relpath(stage_1)
    return (
        '. Joint pretraining starts from a ventral branch that was pretrained on images. Either\n'
        f'  train it:  {launch} {config} 8\n'
        "  or take MAE's weights (github.com/facebookresearch/mae) in its place:\n"
        f'    {command("import", "model_converters/import_checkpoint.py")} MAE.pth {imported}\n'
        f'    and --cfg-options model.init_dorsal_from={imported}\n'
        '  or start from scratch, which the paper does not:  --cfg-options '
        'model.init_dorsal_from=None'
    )


def missing_contours(dicts: Iterable[tuple[Path_, dict]], filename: str | None) -> Iterator[str]:
    """Yield a text for each cache of contours that does not exist.

    Args:
        dicts: The dicts of a config, with the keys that lead to each.
        filename: The config file.
    """
    dicts = list(dicts)
    for path, part in dicts:
        cache = part.get('contour_cache')
        if not isinstance(cache, str) or os.path.isfile(os.path.join(cache, MANIFEST)):
            continue
        prefix = part.get('data_prefix') or ''
        prefix = next(iter(prefix.values()), '') if isinstance(prefix, dict) else prefix
        kind = 'images' if 'Image' in part.get('type', '') else 'videos'
        root = part.get('data_root') or ''
        folder = os.path.join(root, prefix).rstrip('/')
        ann_file = part.get('ann_file') and os.path.join(root, part['ann_file'])
        where = '.'.join(map(str, (*path, 'contour_cache')))
        text = missing_cache(cache, kind, folder, ann_file or '')
        yield f'{where}={cache!r}: {text}\n  {_without(filename)}'


def _without(filename: str | None) -> str:
    """Explain how to train without a cache."""
    edge = Path(filename or '').with_suffix('')
    edge = edge.with_name(f'{edge.name}_edge.py') if filename else edge
    if edge.is_file():
        return f'or train with edges found online, which need no contours: {edge}'
    return (
        'or train with edges found online: type EdgeContourTarget in place of '
        'CachedContourTarget, and contour_cache=None, as the configs that end in _edge have it'
    )


def _is_local(part: dict) -> bool:
    return (part.get('backend_args') or {}).get('backend', 'local') == 'local'


def _is_missing(value: object, root: str = '') -> bool:
    if not isinstance(value, str) or not value or '://' in value:
        return False
    return '://' not in root and not os.path.exists(os.path.join(root, value))


def _no_such(what: str, path: Path_, value: str, full: str) -> str:
    return f'{show(path, value)}: no such {what} {os.path.abspath(full)}'


def walk_dicts(node: object, path: Path_ = ()) -> Iterator[tuple[Path_, dict]]:
    """Yield every dict below ``node`` with the keys that lead to it."""
    if isinstance(node, dict):
        yield path, node
    for key, value in items(node):
        yield from walk_dicts(value, (*path, key))


def items(node: object) -> Iterable[tuple[str | int, object]]:
    """Return keys and values of a dict, indices and elements of a list, or nothing."""
    if isinstance(node, dict):
        return node.items()
    return enumerate(node) if isinstance(node, list | tuple) else ()
