"""Labeled videos for finetuning, on top of mmaction2 (which this module needs to be imported)."""

import os
from collections.abc import Sequence

import torch
from mmaction.datasets import RepeatAugDataset, VideoDataset
from mmengine.fileio import exists, list_from_file
from mmengine.registry import DATASETS

from .decoding import ReplaceBrokenVideos


class _Checked(ReplaceBrokenVideos):
    """For mmaction2's datasets of videos: mistakes in the list are named."""

    def load_data_list(self) -> list[dict]:
        """List the videos, and check their labels."""
        if not exists(self.ann_file):
            raise FileNotFoundError(f'ann_file must be an existing file, not {self.ann_file!r}')
        data = super().load_data_list()
        if not data:
            raise ValueError(f'ann_file={self.ann_file!r} lists no video')
        for number, info in enumerate(data, start=1):
            labels = info['label'] if self.multi_class else [info['label']]
            if not all(0 <= label < self.num_classes for label in labels):
                raise ValueError(
                    f'line {number} of {self.ann_file!r}: the label of {info["filename"]!r} is '
                    f'{info["label"]}, but must be 0 to {self.num_classes - 1} '
                    f'(num_classes={self.num_classes})'
                )
        return data


@DATASETS.register_module()
class LabeledVideoDataset(_Checked, VideoDataset):
    """mmaction2's VideoDataset, which says what is wrong with a list, and replaces broken videos.

    Args:
        ann_file: A line ``path label`` per video, or ``path label label ...`` with
            ``multi_class=True``; labels are 0 to ``num_classes`` - 1.
        pipeline: Transforms.
        num_classes: Number of classes.
        **kwargs: As mmaction2's VideoDataset: ``data_root``, ``data_prefix``, ``multi_class``,
            ``delimiter`` (for paths with spaces) and ``test_mode``; and ``decode_timeout``, see
            :class:`bimm_mm.datasets.decoding.ReplaceBrokenVideos`.

    Raises:
        FileNotFoundError: There is no ``ann_file``.
        ValueError: It is empty, or a label is outside the classes; the message names line and file.
        BrokenSampleError: On access, if ten videos in a row are broken; in evaluation, if one is.
    """

    def __init__(self, ann_file: str, pipeline: Sequence, num_classes: int, **kwargs) -> None:
        super().__init__(ann_file, pipeline, num_classes=num_classes, **kwargs)


@DATASETS.register_module()
class RepeatedVideoDataset(_Checked, RepeatAugDataset):
    """Repeated augmentation (Hoffer et al., 2019): several augmented clips from one decode.

    A sample is a list of ``num_repeats`` clips, so it needs ``collate_fn=dict(
    type='repeat_pseudo_collate')``, and a batch has ``num_repeats`` times its size. The pipeline
    starts with DecordInit, a sampler and DecordDecode. The clips are the same frames, augmented
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
        super().__init__(
            ann_file,
            pipeline,
            num_classes=num_classes,
            num_repeats=num_repeats,
            sample_once=True,
            **kwargs,
        )


@DATASETS.register_module()
class VideoRegressionDataset(ReplaceBrokenVideos, VideoDataset):
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

    def load_data_list(self) -> list[dict]:
        """List the videos: a dict with ``filename`` and ``label`` each."""
        data = []
        for number, line in enumerate(list_from_file(self.ann_file), start=1):
            name, *values = line.strip().split(self.delimiter)
            try:
                label = torch.tensor([float(value) for value in values])
                if not len(label):
                    raise ValueError('there is no number')
            except ValueError as error:
                raise ValueError(
                    f'line {number} of {self.ann_file!r} must be a path and numbers, but is '
                    f'{line!r}: {error}'
                ) from error
            filename = os.path.join(self.data_prefix['video'] or '', name)
            data.append(dict(filename=filename, label=label))
        return data
