"""Reading of images."""

import io

import cv2
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine.fileio import get
from mmengine.registry import TRANSFORMS
from PIL import Image

DEEP = ('.png', '.tif', '.tiff', '.pgm')  # the endings of images that may have 16 bits


@TRANSFORMS.register_module()
class LoadImage(LoadImageFromFile):
    """mmcv's LoadImageFromFile by Pillow, which 16-bit gray images do not turn white.

    Pillow cuts values off at 255 where it makes RGB of such an image; here they are scaled, as
    OpenCV does. OpenCV in turn takes a truncated image as whole, with gray in place of the rest,
    and is therefore not used for the others.

    Args:
        **kwargs: As of mmcv's.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**dict(imdecode_backend='pillow') | kwargs)

    def transform(self, results: dict) -> dict | None:
        """Read ``img_path``: ``img`` (H, W, 3) uint8, BGR, ``img_shape`` and ``ori_shape``."""
        path = results['img_path']
        results = super().transform(results)
        if results is None or not str(path).lower().endswith(DEEP):
            return results
        data = get(path, backend_args=self.backend_args)
        with Image.open(io.BytesIO(data)) as image:
            deep = image.mode == 'I' or image.mode.startswith('I;16')
        if deep:
            results['img'] = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        return results
