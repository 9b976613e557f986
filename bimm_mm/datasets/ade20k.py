"""ADE20K through mmseg, with an empty folder named."""

from mmengine.registry import DATASETS
from mmseg.datasets import ADE20KDataset


@DATASETS.register_module()
class CheckedADE20KDataset(ADE20KDataset):
    """mmseg's ADE20KDataset; arguments are those of mmseg's.

    Raises:
        ValueError: There is no image in the folder.
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
