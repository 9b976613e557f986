"""Load contours from a cache into a sample. Everything here is our choice."""

from collections.abc import Sequence

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS

from ...contours.cache import ContourCache, missing_cache, sample_key

# 0 is no mask; the others take every level once, in steps near the golden ratio of 255
GRAY_OF_MASK = np.array([0, *(1 + 158 * number % 255 for number in range(255))], np.uint8)


def add_contours(
    data_list: list[dict], cache: str | None, kind: str, folder: str, ann_file: str = ''
) -> list[dict]:
    """Tell every sample of a data set where its contours are.

    Args:
        data_list: With ``filename`` (videos) or ``img_path`` (images) each; changed in place,
            ``contours`` is added.
        cache: Folder of the cache; without one, nothing is done.
        kind: 'videos' or 'images'.
        folder: The folder of the data set, which the names in the cache are relative to.
        ann_file: The list of the data set, if it has one; for the message.

    Raises:
        FileNotFoundError: There is no cache; the message has the command that makes it.
        ContourCacheError: It lacks samples, or is not of this kind.
        ValueError: A sample is not below the folder.
    """
    if cache is None:
        return data_list
    path = 'filename' if kind == 'videos' else 'img_path'
    keys = [sample_key(info[path], folder) for info in data_list]
    check_contours(cache, kind, keys, folder, ann_file)
    for info, key in zip(data_list, keys, strict=True):
        info['contours'] = (cache, key)
    return data_list


def check_contours(
    cache: str, kind: str, keys: Sequence[str], folder: str, ann_file: str = ''
) -> None:
    """Check that a cache has the contours of all samples; as :func:`add_contours`.

    Args:
        cache, kind, folder, ann_file: As of :func:`add_contours`.
        keys: Paths of the samples below the folder.
    """
    try:
        opened = ContourCache(cache)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            missing_cache(cache, kind, folder.rstrip('/'), ann_file)
            + '\nor train with the config of the same name that ends in _edge, which needs no '
            'contours (EdgeContourTarget and contour_cache=None)'
        ) from error
    opened.check(kind, keys)


@TRANSFORMS.register_module()
class LoadContours(BaseTransform):
    """Append the contours of a sample to its frames, or its image, as a fourth channel.

    To be placed after decoding and before any change of geometry: resizing, cropping and flipping
    of mmaction2 and mmpretrain then act on colors and contours alike. A frame that was not
    segmented takes the contour of the nearest one. A contour that was kept at a smaller size is
    enlarged bilinearly.

    Does nothing for a sample without ``contours``: its data set has no ``contour_cache``.

    Required keys: ``contours`` (set by the data set); ``imgs``, ``frame_inds`` and
    ``total_frames`` of mmaction2, or ``img``, an array or a PIL image.

    Modified keys: ``imgs``, (H, W, 4) uint8 each, or ``img``, (H, W, 4) uint8 or a PIL image of
    mode RGBX. Outlines are 0 or 255, masks gray levels. (In mode RGBA, PIL would blacken colors
    where there is no contour, and mmpretrain's ``NumpyToPIL`` drops a fourth channel: place this
    one after it.)

    Raises:
        FileNotFoundError, ContourCacheError: As :class:`ContourCache`.
    """

    def __init__(self) -> None:
        self.caches: dict[str, ContourCache] = {}

    def transform(self, results: dict) -> dict:
        """Append the channel."""
        if 'contours' not in results:
            return results
        root, key = results['contours']
        if root not in self.caches:
            self.caches[root] = ContourCache(root)
        cache = self.caches[root]
        if 'imgs' in results:
            images = results['imgs']
            contours = cache.frames(
                key, results['frame_inds'], results['total_frames'], images[0].shape[:2]
            )
            results['imgs'] = [
                append(*pair, cache.what) for pair in zip(images, contours, strict=True)
            ]
        elif isinstance(results['img'], np.ndarray):
            image = results['img']
            results['img'] = append(image, cache.image(key, image.shape[:2]), cache.what)
        else:
            image = np.asarray(results['img'].convert('RGB'))
            image = append(image, cache.image(key, image.shape[:2]), cache.what)
            results['img'] = rgbx(image)
        return results


def append(image: np.ndarray, contour: np.ndarray, what: str = 'outline') -> np.ndarray:
    """Join (H, W, 3) uint8 and a contour, (h, w), to (H, W, 4) uint8.

    An outline of 0 and 1 becomes 0 and 255. Masks become gray levels, those of successive numbers
    far apart, and are enlarged without mixing them.
    """
    contour = contour * np.uint8(255) if what == 'outline' else GRAY_OF_MASK[contour]
    if contour.shape != image.shape[:2]:
        method = cv2.INTER_LINEAR if what == 'outline' else cv2.INTER_NEAREST
        contour = cv2.resize(contour, image.shape[1::-1], interpolation=method)
    return np.dstack([image, contour])


def rgbx(image: np.ndarray):
    """Turn (H, W, 4) uint8 into a PIL image whose fourth channel is not transparency."""
    from PIL import Image

    return Image.frombuffer('RGBX', image.shape[1::-1], image.tobytes(), 'raw', 'RGBX', 0, 1)
