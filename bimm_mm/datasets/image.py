"""Real images without labels, on top of mmpretrain (which this module needs to be imported)."""

from mmengine.registry import DATASETS
from mmpretrain.datasets import CustomDataset

from .broken import ReplaceBroken
from .contours import add_contours


@DATASETS.register_module()
class ImageFolderDataset(ReplaceBroken, CustomDataset):
    """mmpretrain's CustomDataset with contours from a cache. Source: our choice.

    A broken image is replaced, see :class:`bimm_mm.datasets.broken.ReplaceBroken`.

    Args:
        contour_cache (str, optional): folder of contours for ``LoadContours``, made by
            ``tools/dataset_converters/extract_contours.py`` of the folder ``data_root`` joined
            with ``data_prefix``.
        **kwargs: arguments of mmpretrain's CustomDataset.

    Raises:
        FileNotFoundError, ContourCacheError: if the cache is not there, or lacks images.
        BrokenSampleError: on access, if ten images in a row are broken; in evaluation, if one is.
    """

    def __init__(self, contour_cache: str | None = None, **kwargs) -> None:
        self.contour_cache = contour_cache
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict]:
        """List the images: a dict with ``img_path`` each, and ``contours`` if there is a cache."""
        images = super().load_data_list()
        return add_contours(images, self.contour_cache, 'images', self.img_prefix, self.ann_file)
