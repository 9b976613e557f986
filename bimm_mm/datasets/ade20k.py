"""ADE20K through mmseg, with an empty folder and wrong labels named."""

from mmengine.registry import DATASETS
from mmseg.datasets import ADE20KDataset


@DATASETS.register_module()
class CheckedADE20KDataset(ADE20KDataset):
    """mmseg's ADE20KDataset; arguments are those of mmseg's.

    Raises:
        ValueError: There is no image in the folder. On access, if an image of labels has a value
            that is not a class, which the loss would answer with an error that names no file.
    """

    def load_data_list(self) -> list[dict]:
        """As mmseg's."""
        data = super().load_data_list()
        if not data:
            raise ValueError(
                f'data_prefix.img_path={self.data_prefix["img_path"]!r} has no image that ends in '
                f'img_suffix={self.img_suffix!r}'
            )
        return data

    def prepare_data(self, idx: int) -> object:
        """As mmseg's; the labels of the sample are checked."""
        sample = super().prepare_data(idx)
        packed = sample.get('data_samples') if isinstance(sample, dict) else None
        if packed is not None and 'gt_sem_seg' in packed:
            labels, classes = packed.gt_sem_seg.data, len(self.metainfo['classes'])
            wrong = (labels >= classes) & (labels != self.ignore_index)
            if wrong.any():
                value = int(labels[wrong].max()) + self.reduce_zero_label
                raise ValueError(
                    f'{packed.seg_map_path} has the value {value}, but there are {classes} classes'
                )
        return sample
