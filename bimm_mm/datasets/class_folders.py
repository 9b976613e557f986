"""Labeled videos of one's own: a folder per class, or a list, and a seeded split."""

import os
import random
import re
from collections import Counter
from collections.abc import Sequence

from mmengine.fileio import exists, list_from_file
from mmengine.registry import DATASETS

from ..utils.media import VIDEOS, find_parts, list_classes, list_media
from .labeled import LabeledVideoDataset, RepeatedVideoDataset

SPLITS = ('train', 'val', 'all')


class _OwnVideos:
    """What :class:`ClassFolderDataset` says, for mmaction2's data sets of videos."""

    def __init__(
        self,
        data_root: str,
        pipeline: Sequence,
        num_classes: int,
        split: str = 'all',
        ann_file: str = '',
        val_share: float = 0.2,
        seed: int = 0,
        **kwargs,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f'split={split!r} must be one of {", ".join(SPLITS)}')
        if not 0 < val_share < 1:
            raise ValueError(f'val_share={val_share} must be more than 0 and less than 1')
        self.split, self.val_share, self.seed = split, val_share, seed
        super().__init__(
            ann_file=ann_file,
            pipeline=pipeline,
            num_classes=num_classes,
            data_root=data_root,
            data_prefix=dict(video=''),
            **kwargs,
        )

    def load_data_list(self) -> list[dict]:
        """List the videos of the split: a dict with ``filename`` and ``label`` each."""
        if self.ann_file:
            videos, is_split = read_list(self.ann_file), False
            names = class_names([label for _, label in videos])
        else:
            parts = find_parts(self.data_root)
            is_split = len(parts) > 1
            # of both parts, as one may lack a class
            names = sorted({name for folder in parts.values() for name in list_classes(folder)})
            folders = [parts[self.split]] if self.split in parts else list(parts.values())
            videos = [
                (os.path.join(os.path.relpath(folder, self.data_root), name, video), name)
                for folder in folders
                for name in list_classes(folder)
                for video in list_media(os.path.join(folder, name), VIDEOS)
            ]
        self._check_classes(names)
        self._metainfo['classes'] = tuple(names)
        if self.split != 'all' and not is_split:
            videos = split_videos(videos, self.split, self.val_share, self.seed)
        return [
            dict(
                filename=os.path.normpath(os.path.join(self.data_root, video)),
                label=names.index(label),
            )
            for video, label in videos
        ]

    def _check_classes(self, names: Sequence[str]) -> None:
        if len(names) != self.num_classes:
            where = self.ann_file or self.data_root
            shown = ', '.join(names[:12]) + (', ...' if len(names) > 12 else '')
            raise ValueError(
                f'num_classes={self.num_classes}, but {where} has {len(names)} classes: {shown}. '
                f'Set num_classes={len(names)}'
            )


@DATASETS.register_module()
class ClassFolderDataset(_OwnVideos, LabeledVideoDataset):
    """Labeled videos in a folder per class, or in a list, with a split drawn from a seed.

    - A folder per class: ``data_root/<class>/.../<video>``. Classes are the names of the folders,
      sorted. Or, split by hand, ``data_root/train/<class>/`` and ``data_root/val/<class>/``.
    - A list: lines ``path label``, separated by a blank, a tab or a comma, where the label is the
      name or the number of a class. Paths and names may have blanks.

    The split is drawn for each class by itself: ``val_share`` of its videos, at least one of two.
    It depends on ``seed``, the class and the names of its videos, so that another class changes
    nothing in the others. Names of classes are in ``metainfo['classes']``, which a Runner writes
    into checkpoints.

    Args:
        data_root: The folder; paths in a list are relative to it.
        pipeline: Transforms, as of :class:`LabeledVideoDataset`.
        num_classes: Number of classes; checked.
        split: 'train', 'val' or 'all'.
        ann_file: A list, in place of folders.
        val_share: Share of a class's videos that are for validation, between 0 and 1.
        seed: Of the split.
        **kwargs: As :class:`LabeledVideoDataset`.

    Raises:
        FileNotFoundError: There is no such folder or list, or no video in a class.
        ValueError: The number of classes is another, or a line of the list is not as above.
    """


@DATASETS.register_module()
class RepeatedClassFolderDataset(_OwnVideos, RepeatedVideoDataset):
    """:class:`ClassFolderDataset` with several augmented clips of each video.

    Args:
        **kwargs: As :class:`ClassFolderDataset`, and ``num_repeats``, as of
            :class:`RepeatedVideoDataset`.
    """


def read_list(path: str) -> list[tuple[str, str]]:
    """(path, label) of each line of a list; empty lines are left out.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A line has no label; the message names it.
    """
    if not exists(path):
        raise FileNotFoundError(f'ann_file must be an existing file, not {path!r}')
    endings = '|'.join(map(re.escape, VIDEOS))
    videos = []
    for number, line in enumerate(list_from_file(path), start=1):
        if not line.strip():
            continue
        found = re.fullmatch(rf'(.+?(?:{endings}))[\s,]+(.+)', line.strip(), re.IGNORECASE)
        if found is None:
            raise ValueError(
                f'line {number} of {path!r} must be the path of a video and a label, separated by '
                f'a blank, a tab or a comma, but is {line!r}'
            )
        videos.append((found[1], found[2]))
    return videos


def class_names(labels: Sequence[str]) -> list[str]:
    """The classes of the labels of a list, sorted; numbers by their value, from 0 on."""
    labels = set(labels)
    if all(label.isdigit() for label in labels):
        return [str(number) for number in range(max(map(int, labels), default=-1) + 1)]
    return sorted(labels)


def split_videos(
    videos: Sequence[tuple[str, str]], split: str, val_share: float, seed: int
) -> list[tuple[str, str]]:
    """Those of (path, label) pairs that are of a split, drawn for each label by itself."""
    counts = Counter(label for _, label in videos)
    chosen: set[tuple[str, str]] = set()
    for label, count in counts.items():
        own = sorted(video for video in videos if video[1] == label)
        random.Random(f'{seed} {label}').shuffle(own)
        share = min(max(round(count * val_share), 1), count - 1)
        chosen |= set(own[:share])
    return [video for video in videos if (video in chosen) == (split == 'val')]
