"""Crop and resize frames once, where the documented pipelines do it in three steps."""

import random
from collections.abc import Sequence

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS


@TRANSFORMS.register_module()
class MultiScaleCropResize(BaseTransform):
    """VideoMAE's multi-scale crop, cut from the decoded frames and resized once.

    The same crops for the same seeds as mmaction2's ``Resize(scale=(-1, short_side))``,
    ``MultiScaleCrop`` and ``Resize(scale=(size, size), keep_ratio=False)``: the sides of the crop
    are two of ``scales`` times the short side, next to each other in ``scales``, and it lies at one
    of 13 places. But the frames are not resized before they are cut, so that the box is rounded
    to a pixel of the decoded frame, and interpolated once. Where the short side is ``short_side``
    already, the result is the same, to the bit.

    Required and modified keys: ``imgs``, N frames (H, W, C) uint8, which become one array
    (N, size, size, C).
    Modified keys: ``img_shape``; ``scale_factor``, (2,) across and down, multiplied. Added keys:
    ``crop_quadruple``, left, top, width and height of the crop, as shares of the frame.

    Args:
        size: Side of the result in pixels.
        short_side: Short side of the frames that sizes of crops are rounded for, in pixels.
        scales: Sides of the crops, as shares of the short side.

    Raises:
        ValueError: ``scales`` are not in (0, 1].
    """

    def __init__(
        self,
        size: int = 224,
        short_side: int = 256,
        scales: Sequence[float] = (1, 0.875, 0.75, 0.66),
    ) -> None:
        if not scales or not all(0 < scale <= 1 for scale in scales):
            raise ValueError(f'scales={scales} must be in (0, 1]')
        self.size, self.short_side, self.scales = size, short_side, tuple(scales)

    def transform(self, results: dict) -> dict:
        """Cut and resize all frames alike."""
        height, width = results['img_shape']
        factor = self.short_side / min(height, width)
        # mmcv's rounding of the frame that would be cut
        scaled = int(height * factor + 0.5), int(width * factor + 0.5)
        top, left, bottom, right = self.draw(*scaled)
        rows = _fit(top, bottom, scaled[0], height)
        columns = _fit(left, right, scaled[1], width)
        size = (self.size, self.size)
        frames = results['imgs']
        resized = np.empty((len(frames), *size, *frames[0].shape[2:]), frames[0].dtype)
        for frame, out in zip(frames, resized, strict=True):
            cv2.resize(frame[rows, columns], size, out, interpolation=cv2.INTER_LINEAR)
        results['imgs'] = resized  # one array, which FormatShape need not copy
        results['img_shape'] = size
        sides = (columns.stop - columns.start, rows.stop - rows.start)
        before = np.asarray(results.get('scale_factor', (1.0, 1.0)))[:2]
        results['scale_factor'] = before * self.size / np.array(sides)
        box = (left, top, right - left, bottom - top)
        results['crop_quadruple'] = np.divide(box, 2 * scaled[::-1])
        return results

    def draw(self, height: int, width: int) -> tuple[int, int, int, int]:
        """A box in a frame of this size: top, left, bottom, right.

        Draws twice from Python's generator, as mmaction2's MultiScaleCrop.
        """
        sides = [int(min(height, width) * scale) for scale in self.scales]
        pairs = [
            (w, h) for i, h in enumerate(sides) for j, w in enumerate(sides) if abs(i - j) <= 1
        ]
        # a crop of nearly the wanted size is not resized
        w, h = (self.size if abs(side - self.size) < 3 else side for side in random.choice(pairs))
        x, y = (width - w) // 4, (height - h) // 4
        # corners and center, middles of the sides, and the centers of the quarters; in quarters
        places = [(0, 0), (4, 0), (0, 4), (4, 4), (2, 2), (0, 2), (4, 2), (2, 4), (2, 0)]
        places += [(1, 1), (3, 1), (1, 3), (3, 3)]
        across, down = random.choice(places)
        return down * y, across * x, down * y + h, across * x + w


def _fit(begin: int, end: int, scaled: int, side: int) -> slice:
    """A range of a scaled side, of at least one pixel, in the side itself."""
    if scaled == side:
        return slice(begin, end)
    first = min(round(begin * side / scaled), side - 1)
    return slice(first, max(first + 1, round(end * side / scaled)))
