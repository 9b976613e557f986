"""Contours, the target of stage V2."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor

from ..step import Step
from .base import BaseTarget


class ContourTarget(BaseTarget):
    """What contour targets have in common: one value in [0, 1] per pixel, frame by frame."""

    name = 'contour'
    per_pixel = True

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.out_dims = math.prod(self.patch_size)


@MODELS.register_module()
class CachedContourTarget(ContourTarget):
    """Contours that were made beforehand and come with the input, as the side input 'contours'.

    ``LoadContours`` makes them the fourth channel of a sample, so that geometric transforms act on
    colors and contours alike; the preprocessor splits them off. Resizing makes their lines soft or
    dim; they are taken as they are (our choice): the value is the share of the pixel that is
    covered by a line.
    """

    def from_step(self, step: Step, ids: Tensor | None) -> Tensor:
        """Values in [0, 1], in the order frame, row, column.

        Raises:
            ValueError: There are no contours.
        """
        if 'contours' not in step.side:
            raise ValueError(
                'CachedContourTarget needs contours as the fourth channel of the samples, but they '
                'have three channels: give the data set contour_cache=... and its pipeline '
                'LoadContours, or use EdgeContourTarget, which needs no cache'
            )
        return self(step.side['contours'], ids)

    def compute(self, x: Tensor, ids: Tensor | None) -> Tensor:
        """Contours (B, 1, T, H, W) to (B, M, out_dims)."""
        return self.take(x, ids)


@MODELS.register_module()
class EdgeContourTarget(ContourTarget):
    """Thin edges of the luminance, found online on the device.

    Stands in for the contours of Segment Anything (paper: stage V2) where those were not
    extracted. Derivatives of a Gaussian give the strength and direction of an edge, of which
    only the ridge is kept; a soft threshold maps it to [0, 1] (our choice).

    Args:
        sigma: Width of the Gaussian in pixels.
        low: Height of the luminance step, in [0, 1], up to which there is no contour.
        high: Height of the step from which a contour counts fully.
    """

    def __init__(self, sigma: float = 1.0, low: float = 0.04, high: float = 0.16, **kwargs) -> None:
        super().__init__(**kwargs)
        if not 0 <= low < high:
            raise ValueError(f'low={low} must be at least 0 and less than high={high}')
        self.low = low
        self.high = high
        radius = math.ceil(3 * sigma)
        position = torch.arange(-radius, radius + 1, dtype=torch.float64)
        gauss = torch.exp(-(position**2) / (2 * sigma**2))
        slope = position * gauss
        self.gauss = (gauss / gauss.sum()).tolist()
        self.slope = (slope / slope[position > 0].sum()).tolist()  # a step of height 1 gives 1

    def compute(self, x: Tensor, ids: Tensor | None) -> Tensor:
        """Values in [0, 1], in the order frame, row, column."""
        edges = self.by_frames(self.contours, self.luminance(x).flatten(0, 1)[:, None])
        return self.take(edges.view(len(x), 1, *x.shape[2:]), ids)

    def contours(self, image: Tensor) -> Tensor:
        """(N, 1, H, W) luminance to (N, 1, H, W) contours in [0, 1]."""
        radius = len(self.gauss) // 2
        image = F.pad(image, (radius,) * 4, mode='replicate')
        dx = correlate(correlate(image, self.gauss, dim=2), self.slope, dim=3).abs_()
        dy = correlate(correlate(image, self.gauss, dim=3), self.slope, dim=2).abs_()
        strength = torch.hypot(dx, dy)
        around = F.pad(strength, (1, 1, 1, 1))
        left, right = around[..., 1:-1, :-2], around[..., 1:-1, 2:]
        above, below = around[..., :-2, 1:-1], around[..., 2:, 1:-1]
        upright = dx >= dy
        ridge = (upright & (strength >= left) & (strength > right)).logical_or_(
            ~upright & (strength >= above) & (strength > below)
        )
        return ((strength - self.low) / (self.high - self.low)).clamp_(0, 1).mul_(ridge)


def correlate(x: Tensor, taps: Sequence[float], dim: int) -> Tensor:
    """Apply a one-dimensional filter along an axis, without padding.

    A sum of shifted copies: for a single channel on a CPU it takes a tenth of the time of torch's
    convolution.
    """
    length = x.shape[dim] - len(taps) + 1
    result = x.narrow(dim, 0, length) * taps[0]
    for start, tap in enumerate(taps[1:], 1):
        if tap:
            result.add_(x.narrow(dim, start, length), alpha=tap)
    return result
