"""Generated clips with one of their labels, for mmaction2's models (which this module needs)."""

from mmaction.structures import ActionDataSample
from mmengine.registry import DATASETS

from .moving_shapes import MovingShapesDataset

LABELS = ('motion', 'shape', 'texture', 'camera')


@DATASETS.register_module()
class LabeledShapesDataset(MovingShapesDataset):
    """:class:`MovingShapesDataset` as a data set of labeled videos.

    Each sample is ``inputs``, (1, 3, T, size, size) uint8 RGB, and an ``ActionDataSample`` with the
    label.

    Args:
        label: 'motion', 'shape', 'texture', or 'camera' where there are ``camera_speeds``.
        **kwargs: As :class:`MovingShapesDataset`, with ``num_frames``.

    Raises:
        ValueError: For another ``label``, or one that the clips do not have.
    """

    def __init__(self, label: str, **kwargs) -> None:
        if label not in LABELS:
            raise ValueError(f'label={label!r} must be one of {", ".join(LABELS)}')
        super().__init__(**kwargs)
        if label not in self.labels:
            raise ValueError(f"label='camera' needs camera_speeds, but got {self.camera_speeds!r}")
        self.label = label

    def __getitem__(self, index: int) -> dict:
        """One clip with its label."""
        sample = super().__getitem__(index)
        label = getattr(sample['data_samples'], self.label)
        return dict(
            inputs=sample['inputs'][None], data_samples=ActionDataSample().set_gt_label(label)
        )
