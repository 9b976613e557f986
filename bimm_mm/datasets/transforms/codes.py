"""Cut the codes of a crop out of those that were made beforehand. Everything here is our choice."""

import random
from collections.abc import Sequence

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS

from ...codes.cache import WHOLE, CodeCache, CodeCacheError
from ...codes.extraction import resize_frame, sample_times, scaled_size
from ...contours.cache import sample_key

TOLERANCE = 0.5  # pixels; by as much do crops round their box
_OPENED: dict[str, CodeCache] = {}


def open_cache(root: str) -> CodeCache:
    """Open a cache; each one once in a process."""
    if root not in _OPENED:
        _OPENED[root] = CodeCache(root)
    return _OPENED[root]


def add_codes(
    data_list: Sequence[dict], caches: str | Sequence[str] | None, path: str, folder: str
) -> Sequence[dict]:
    """Tell every sample of a data set where its codes are.

    Args:
        data_list: Changed in place, ``codes_from`` is added.
        caches: Folder of the cache, or of several, one for each size that frames are resized to;
            without one, nothing is done.
        path: Key of a sample's file.
        folder: The folder of the data set, which the names in the cache are relative to.

    Raises:
        FileNotFoundError: There is no cache.
        CodeCacheError: It lacks samples.
        ValueError: A sample is not below the folder.
    """
    if not caches:
        return data_list
    data_list = list(data_list)
    keys = [sample_key(info[path], folder) for info in data_list]
    roots = check_codes(caches, keys)
    for info, key in zip(data_list, keys, strict=True):
        info['codes_from'] = (roots, key)
    return data_list


def check_codes(caches: str | Sequence[str] | None, keys: Sequence[str]) -> tuple[str, ...]:
    """Check that caches have the codes of all samples; as :func:`add_codes`.

    Args:
        caches: As of :func:`add_codes`.
        keys: Paths of the samples below the folder.

    Returns:
        The folders of the caches.
    """
    roots = (caches,) if isinstance(caches, str) else tuple(caches or ())
    for root in roots:
        open_cache(root).check(keys)
    return roots


@TRANSFORMS.register_module()
class GridCrop(BaseTransform):
    """Crop a square at a random place of a grid, so that its codes can be cut out of a cache.

    Frames are resized as for the cache, all alike, then cut. Where their short side is ``resize``
    already, they are cut only.

    Required and modified keys: ``imgs``, a list of (H, W, C) uint8, or ``img``, an array or a PIL
    image; they become (size, size, C). Modified keys: ``img_shape``; ``scale_factor``, (2,) across
    and down, multiplied. Added keys: ``crop_quadruple``, as mmaction2's crops have it: left, top,
    width and height of the crop, as shares of the frame.

    Args:
        size: Side of the crop in pixels.
        resize: What the short side is resized to, or several sizes, of which one is drawn for each
            sample: with larger ones, crops show less. Each needs a cache of its own.
        pixels_per_code: Step of the grid in pixels: the size of the encoder's patches.

    Raises:
        ValueError: ``pixels_per_code`` does not divide ``size`` and ``resize``, or ``resize`` is
            less than ``size``.
    """

    def __init__(
        self, size: int = 224, resize: int | Sequence[int] = 256, pixels_per_code: int = 16
    ) -> None:
        self.size, self.pixels_per_code = size, pixels_per_code
        self.resize = (resize,) if isinstance(resize, int) else tuple(resize)
        if not self.resize or min(self.resize) < size:
            raise ValueError(f'resize={resize} must be at least size={size}')
        if pixels_per_code < 1 or any(side % pixels_per_code for side in (size, *self.resize)):
            raise ValueError(
                f'pixels_per_code={pixels_per_code} must divide size={size} and resize={resize}'
            )

    def transform(self, results: dict) -> dict:
        """Cut all frames alike."""
        images = results.get('imgs', [results.get('img')])
        frames = [np.asarray(image) for image in images]
        short_side = random.choice(self.resize)
        shape = frames[0].shape[:2]
        height, width = scaled_size(shape, short_side)
        step, size = self.pixels_per_code, self.size
        top, left = (step * random.randint(0, (side - size) // step) for side in (height, width))
        frames = [
            resize_frame(frame, short_side)[top : top + size, left : left + size]
            for frame in frames
        ]
        if 'imgs' in results:
            results['imgs'] = frames
        else:
            is_array = isinstance(images[0], np.ndarray)
            results['img'] = frames[0] if is_array else as_pil(frames[0], images[0].mode)
        results['img_shape'] = (size, size)
        before = np.asarray(results.get('scale_factor', (1.0, 1.0)))[:2]
        results['scale_factor'] = before * (width / shape[1], height / shape[0])
        results['crop_quadruple'] = np.array(
            [left / width, top / height, size / width, size / height]
        )
        return results


def as_pil(image: np.ndarray, mode: str):
    """Turn (H, W, C) uint8 into a PIL image of this mode."""
    from PIL import Image

    return Image.frombuffer(mode, image.shape[1::-1], image.tobytes(), 'raw', mode, 0, 1)


@TRANSFORMS.register_module()
class LoadCodes(BaseTransform):
    """Cut the codes of a crop out of those of whole frames, where it lies on their grid.

    To be placed after cropping and flipping. Codes become the field 'codes' of the data sample
    (``meta_keys=('codes',)`` of PackActionInputs or PackInputs), and a side input of the model.
    They are None, and the model's ``tokenizer`` makes them, where

    - the sample has no ``codes_from``: its data set has no ``code_cache``;
    - the crop is not on the grid, or of another scale (:class:`GridCrop` makes crops that are), or
      no transform noted it as ``crop_quadruple``;
    - the frames are not among those that were encoded;
    - the crop was flipped, and the cache has no flipped view (or it was flipped upside down). The
      codes of a flipped crop are not the flipped codes of the crop: neither a network nor a
      codebook of patches is symmetric. Flips must come after the crop and note themselves, as
      mmaction2's Flip and mmcv's RandomFlip do, and torchvision's do not.

    A codebook of patches gives a crop the codes that it would give it online. A network looks
    beyond its own pixels: codes that are cut know what is around the crop, codes made online know
    the crop alone.

    Required keys: ``frame_inds`` and ``original_shape`` of mmaction2, or ``ori_shape`` of mmcv;
    ``avg_fps`` and ``total_frames`` for caches at a rate of their own.

    Args:
        grid: Rows and columns of codes that the model needs, its grid of patches.
        num_codes: V of the model's tokenizer; compared where it is given.
        sha256: Checksum of the model's tokenizer; compared where it is given.

    Raises:
        CodeCacheError: The cache was made by another tokenizer.
    """

    def __init__(
        self,
        grid: tuple[int, int] = (14, 14),
        num_codes: int | None = None,
        sha256: str | None = None,
    ) -> None:
        self.grid = tuple(grid)
        self.made_by = {
            key: value
            for key, value in dict(num_codes=num_codes, sha256=sha256).items()
            if value is not None
        }

    def transform(self, results: dict) -> dict:
        """Add ``codes``, (T, rows, columns) or of an image (rows, columns) int64, or None."""
        results['codes'] = None
        roots, key = results.get('codes_from', ((), ''))
        for root in roots:
            cache = open_cache(root)
            self.check(cache)
            where = find_codes(cache, results, self.grid)
            if where is not None:
                codes = cache.open(key)[where].astype(np.int64)
                results['codes'] = codes if 'imgs' in results else codes[0]
                break
        return results

    def check(self, cache: CodeCache) -> None:
        """Compare the tokenizers."""
        known = cache.manifest['tokenizer']
        for key, value in self.made_by.items():
            if known[key] != value:
                raise CodeCacheError(
                    f'{cache.root} holds codes of a tokenizer with {key}={known[key]}, but '
                    f'{key}={value} is wanted'
                )


def find_codes(cache: CodeCache, results: dict, grid: tuple[int, int]) -> tuple | None:
    """Find the codes of a crop in a file of the cache.

    Args:
        cache: The cache.
        results: The sample, after its crop; see :class:`LoadCodes`.
        grid: Rows and columns of codes that are wanted.

    Returns:
        An index of (views, frames, rows, columns), or None if they are not in it.
    """
    frames = _find_frames(cache, results)
    size = results.get('original_shape', results.get('ori_shape'))
    box = results.get('crop_quadruple')
    flip = bool(results.get('flip', False))
    turned = flip and results.get('flip_direction', 'horizontal') != 'horizontal'
    if frames is None or box is None or size is None or turned:
        return None
    for number, view in enumerate(cache.views):
        if view.crop != WHOLE or view.flip != flip:
            continue
        step = cache.pixels_per_code(view)
        height, width = scaled_size(tuple(size[:2]), view.resize)
        sides = np.array([width, height, width, height])
        cells = np.asarray(box, np.float64) * sides / step  # left, top, width, height, in codes
        whole = np.rint(cells).astype(int)
        left, top, *extent = whole.tolist()
        rows, columns = height // step, width // step
        if (
            np.abs(cells - whole).max() * step > TOLERANCE
            or tuple(extent[::-1]) != grid
            or left + grid[1] > columns
            or top + grid[0] > rows
        ):
            continue
        if flip:
            left = columns - left - grid[1]
        return number, frames, slice(top, top + grid[0]), slice(left, left + grid[1])
    return None


def _find_frames(cache: CodeCache, results: dict) -> np.ndarray | None:
    """Places of a sample's frames among those that were encoded; None where one is missing."""
    if 'imgs' not in results:
        return np.zeros(1, int)
    wanted = np.ravel(results['frame_inds']) - results.get('start_index', 0)
    fps = cache.manifest['fps']
    if fps is None:
        return wanted
    times = sample_times(results['total_frames'], results.get('avg_fps') or 0.0, fps)
    places = np.searchsorted(times, wanted).clip(max=len(times) - 1)
    return places if np.array_equal(times[places], wanted) else None
