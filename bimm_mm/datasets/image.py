"""Real images, on top of mmpretrain (which this module needs to be imported)."""

from collections.abc import Sequence

from mmengine.registry import DATASETS
from mmpretrain.datasets import CustomDataset, ImageNet

from .broken import ReplaceBroken
from .transforms.codes import add_codes
from .transforms.contours import add_contours


@DATASETS.register_module()
class ImageFolderDataset(ReplaceBroken, CustomDataset):
    """mmpretrain's CustomDataset with contours and codes from caches. Source: our choice.

    A broken image is replaced, see :class:`bimm_mm.datasets.broken.ReplaceBroken`.

    Args:
        contour_cache: Folder of contours for ``LoadContours``, made by
            ``tools/dataset_converters/extract_contours.py`` of the folder ``data_root`` joined
            with ``data_prefix``.
        code_cache: Folder of codes of whole images for ``LoadCodes``, or several, made by
            ``tools/dataset_converters/extract_codes.py --kind images --whole`` of that folder.
        **kwargs: Arguments of mmpretrain's CustomDataset.

    Raises:
        FileNotFoundError, ContourCacheError, CodeCacheError: If a cache is not there, or lacks
            images.
        BrokenSampleError: On access, if ten images in a row are broken; in evaluation, if one is.
    """

    def __init__(
        self,
        contour_cache: str | None = None,
        code_cache: str | Sequence[str] | None = None,
        **kwargs,
    ) -> None:
        self.contour_cache, self.code_cache = contour_cache, code_cache
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict]:
        """List the images: a dict with ``img_path`` each.

        With caches, ``contours`` and ``codes_from`` say where those of the image are.
        """
        images = list(super().load_data_list())
        images = add_codes(images, self.code_cache, 'img_path', self.img_prefix)
        return add_contours(images, self.contour_cache, 'images', self.img_prefix, self.ann_file)


@DATASETS.register_module()
class LabeledImageNet(ReplaceBroken, ImageNet):
    """mmpretrain's ImageNet, where a broken image of the training split is replaced.

    See :class:`bimm_mm.datasets.broken.ReplaceBroken`. For training only: mmpretrain's own, which
    stops at a broken image, is right for validation.
    """
