"""Labeled videos for finetuning, on top of mmaction2 (which this module needs to be imported)."""

import copy
from collections.abc import Sequence

import torch
from mmaction.datasets import VideoDataset
from mmengine.fileio import exists
from mmengine.registry import DATASETS

from ..utils.lists import Entry, read_list
from .decoding import ReplaceBrokenVideos
from .lazy_samples import LazySamples
from .transforms.repeats import decode_once


class _Listed(ReplaceBrokenVideos, VideoDataset):
    """mmaction2's VideoDataset with this package's reader of lists."""

    def __init__(self, ann_file: str, pipeline: Sequence, **kwargs) -> None:
        # LazySamples are small as they are
        super().__init__(ann_file, pipeline, **(dict(serialize_data=False) | kwargs))

    def load_data_list(self) -> Sequence[dict]:
        """List the videos, and check their labels: ``filename`` and ``label`` each."""
        if not exists(self.ann_file):
            raise FileNotFoundError(f'ann_file must be an existing file, not {self.ann_file!r}')
        entries = read_list(self.ann_file, self.delimiter)
        for entry in entries:
            self.label_of(entry)
        return LazySamples(entries, self.data_prefix['video'] or '', self.label_of)

    def label_of(self, entry: Entry) -> object:
        """The label of a line; raises a ValueError that names file and line."""
        raise NotImplementedError


class _Classes(_Listed):
    """With classes as labels."""

    def label_of(self, entry: Entry) -> int | list[int]:
        """The class, or a list of classes."""
        label = entry.labels() if self.multi_class else entry.label()
        if not all(0 <= one < self.num_classes for one in ([label], label)[self.multi_class]):
            raise ValueError(
                f'{entry.where}: the label of {entry.path!r} is {label}, but must be 0 to '
                f'{self.num_classes - 1} (num_classes={self.num_classes})'
            )
        return label


@DATASETS.register_module()
class LabeledVideoDataset(_Classes):
    """mmaction2's VideoDataset, which says what is wrong with a list, and replaces broken videos.

    Args:
        ann_file: A line ``path label`` or ``path frames label`` per video, or
            ``path label label ...`` with ``multi_class=True``; labels are 0 to ``num_classes`` - 1.
            See :func:`bimm_mm.utils.lists.read_list`.
        pipeline: Transforms.
        num_classes: Number of classes.
        **kwargs: As mmaction2's VideoDataset: ``data_root``, ``data_prefix``, ``multi_class``,
            ``delimiter`` and ``test_mode``; and ``decode_timeout``, see
            :class:`bimm_mm.datasets.decoding.ReplaceBrokenVideos`.

    Raises:
        FileNotFoundError: There is no ``ann_file``.
        ValueError: It is empty, or a label is outside the classes; the message names line and file.
        BrokenSampleError: On access, ten videos in a row are broken; in evaluation, one is.
    """

    def __init__(self, ann_file: str, pipeline: Sequence, num_classes: int, **kwargs) -> None:
        super().__init__(ann_file, pipeline, num_classes=num_classes, **kwargs)


@DATASETS.register_module()
class RepeatedVideoDataset(LabeledVideoDataset):
    """Repeated augmentation (Hoffer et al., 2019): several augmented clips from one decode.

    A sample is a list of ``num_repeats`` clips, so it needs ``collate_fn=dict(
    type='repeat_pseudo_collate')``, and a batch has ``num_repeats`` times its size. The pipeline
    opens a video, samples frames and decodes them. The clips are the same frames, augmented
    differently, as in VideoMAE.

    Args:
        ann_file: As :class:`LabeledVideoDataset`, which also says what is raised.
        pipeline: Transforms.
        num_classes: Number of classes.
        num_repeats: Clips of a video.
        **kwargs: As mmaction2's VideoDataset; and ``decode_timeout``.
    """

    def __init__(
        self, ann_file: str, pipeline: Sequence, num_classes: int, num_repeats: int = 2, **kwargs
    ) -> None:
        super().__init__(ann_file, pipeline, num_classes, **kwargs)
        self.num_repeats = num_repeats

    def prepare_data(self, idx: int) -> list[dict]:
        """Decode video ``idx``, and make ``num_repeats`` clips of it."""
        decoded, transforms = decode_once(self.pipeline, self.get_data_info(idx))
        frames = decoded.pop('imgs')
        clips = []
        for number in range(self.num_repeats):
            clip = copy.deepcopy(decoded)
            # transforms like Flip change frames in place; nobody needs the last ones unchanged
            is_last = number == self.num_repeats - 1
            clip['imgs'] = frames if is_last else [frame.copy() for frame in frames]
            for transform in transforms:
                clip = transform(clip)
            clips.append(clip)
        return clips


@DATASETS.register_module()
class VideoRegressionDataset(_Listed):
    """Videos with numbers as labels, one ``path number [number ...]`` per line of ``ann_file``.

    The label is a float32 tensor (numbers,). Source: our choice.

    Args:
        ann_file: The list.
        pipeline: Transforms.
        **kwargs: As mmaction2's VideoDataset; and ``decode_timeout``.

    Raises:
        ValueError: A line has no number, or something that is none; the message names it.
        BrokenSampleError: As :class:`LabeledVideoDataset`.
    """

    def label_of(self, entry: Entry) -> torch.Tensor:
        """(numbers,) float32."""
        return torch.tensor(entry.numbers())
