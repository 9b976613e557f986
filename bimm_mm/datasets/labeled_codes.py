"""Labeled clips of codes for mmaction2's recognizers, which this module needs to be imported."""

from mmaction.structures import ActionDataSample
from mmengine.registry import DATASETS

from .clip_views import CodeClipsDataset


@DATASETS.register_module()
class LabeledCodeClipsDataset(CodeClipsDataset):
    """As :class:`CodeClipsDataset`, with mmaction2's ``ActionDataSample``.

    Args:
        code_cache: As of :class:`CodeClipsDataset`.
        ann_file: List of videos, ``path label`` per line.
        **kwargs: Others of :class:`CodeClipsDataset`.

    Raises:
        ValueError: If a line of the list has no label; and as :class:`CodeClipsDataset`.
    """

    def __init__(self, code_cache: str, ann_file: str, **kwargs) -> None:
        super().__init__(code_cache, ann_file, **kwargs)
        missing = [name for name, label in self.videos if label is None]
        if missing:
            raise ValueError(f'{ann_file} has no label for {missing[0]!r}: `path label` per line')

    def __getitem__(self, index: int) -> dict:
        """Clips of video ``index``."""
        sample = super().__getitem__(index)
        labeled = ActionDataSample(metainfo=sample['data_samples'].metainfo)
        labeled.set_gt_label(sample['data_samples'].gt_label)
        return dict(sample, data_samples=labeled)
