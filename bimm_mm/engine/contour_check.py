"""A recipe whose contours are missing is stopped with the command that makes them."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..datasets.contour_cache import MANIFEST, missing_cache

Dicts = Iterable[tuple[tuple[str | int, ...], dict]]


def missing_contours(dicts: Dicts, filename: str | None) -> Iterator[str]:
    """One text for each cache of contours that does not exist.

    Args:
        dicts: the dicts of a config, with the keys that lead to each.
        filename: the config file.
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
    """How to train without a cache."""
    edge = Path(filename or '').with_suffix('')
    edge = edge.with_name(f'{edge.name}_edge.py') if filename else edge
    if edge.is_file():
        return f'or train with edges found online, which need no contours: {edge}'
    return (
        'or train with edges found online: type EdgeContourTarget in place of '
        'CachedContourTarget, and contour_cache=None, as the configs that end in _edge have it'
    )
