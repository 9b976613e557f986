"""Turn the values of each target into pictures.

A view turns the tokens of a target into maps, and maps into colors. NaN stands for "nothing was
predicted here" all along, and becomes a flat gray at the end.
"""

import math

import matplotlib
import numpy as np
import torch
from matplotlib.colors import hsv_to_rgb
from torch import Tensor

from ..models import (
    BaseTarget,
    CodeTarget,
    ContourTarget,
    EdgeContourTarget,
    GaborTarget,
    MotionTarget,
    PixelTarget,
)
from ..models.layers import unpatchify

HIDDEN = 0.55  # the gray of patches of which nothing is shown


class TargetView:
    """View of a target; this base shows one strength per token, which any target has.

    Args:
        target: What made the values.
        mean, std: (3,) of the data preprocessor, on the scale 0 to 255.

    Attributes:
        title: What is shown.
        note: What one must know to read it.
        color_map: Matplotlib's name, where one number is shown as a color.
        unit: Of that number; empty where there is no scale to draw.
    """

    note = ''
    color_map: str | None = 'gray'
    unit = 'root mean square'

    def __init__(self, target: BaseTarget, mean: Tensor, std: Tensor) -> None:
        self.target = target
        self.mean = mean
        self.std = std
        self.title = target.name

    def maps(self, values: Tensor, x: Tensor) -> Tensor:
        """From tokens to maps.

        Args:
            values: (B, L, out_dims), NaN for tokens without a value.
            x: (B, 3, T, H, W), the normalized input.

        Returns:
            (B, C, T / a, H / b, W / b) in the unit of the view, where a and b are the
            frames and pixels which have a value in common.
        """
        strength = values.square().mean(dim=2, keepdim=True).sqrt()
        return unpatchify(strength, (1, 1, 1), self.token_grid(x))

    def limit(self, maps: Tensor) -> float:
        """Return the value shown as the brightest, so that outliers do not darken the rest."""
        return max(float(np.nanpercentile(maps.numpy(), 99.5)), 1e-6)

    def colors(self, maps: Tensor, limit: float) -> np.ndarray:
        """Maps to (B, T / a, H / b, W / b, 3) float32 RGB in [0, 1], gray for NaN."""
        color_map = matplotlib.colormaps[self.color_map].with_extremes(bad=(HIDDEN,) * 3)
        levels = np.ma.masked_invalid((maps[:, 0] / limit).clamp(0, 1).numpy())
        return color_map(levels)[..., :3].astype(np.float32)

    def token_grid(self, x: Tensor) -> tuple[int, int, int]:
        """(T', H', W') of the input."""
        return tuple(
            size // patch for size, patch in zip(x.shape[2:], self.target.patch_size, strict=True)
        )


class ContourView(TargetView):
    """One channel per pixel in [0, 1], white on black."""

    unit = 'strength'

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self.title = 'contours'
        self.note = 'white: a full contour'
        if isinstance(self.target, EdgeContourTarget):
            self.note += '; edges, found online'

    def maps(self, values: Tensor, x: Tensor) -> Tensor:
        """(B, 1, T, H, W)."""
        return unpatchify(values, self.target.patch_size, self.token_grid(x))

    def limit(self, maps: Tensor) -> float:
        """Contours are in [0, 1] as they are."""
        return 1.0


class PixelView(TargetView):
    """Colors; normalized patches are restored with the true patch's mean and variance."""

    color_map = None
    unit = ''

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self.title = 'pixels'
        if self.target.normalize != 'none':
            self.note = "restored with each patch's own true mean and variance"

    def maps(self, values: Tensor, x: Tensor) -> Tensor:
        """(B, 3, T, H, W) RGB in [0, 1]."""
        values = self.target.restore(values, x, None)
        x = unpatchify(values, self.target.patch_size, self.token_grid(x))
        return denormalize(x, self.mean, self.std)

    def limit(self, maps: Tensor) -> float:
        """Colors are in [0, 1] as they are."""
        return 1.0

    def colors(self, maps: Tensor, limit: float) -> np.ndarray:
        """(B, T, H, W, 3)."""
        return maps.clamp(0, 1).nan_to_num(HIDDEN).permute(0, 2, 3, 4, 1).numpy()


class MotionView(TargetView):
    """The change to the next frame, averaged over the channels, as heat."""

    color_map = 'inferno'
    unit = 'gray levels (0 to 255)'

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self.title = 'motion'
        self.note = 'change to the next frame, mean of R, G and B'
        if not self.target.absolute:
            self.note += '; signs are not shown'
        if self.target.normalize == 'clip':
            self.unit = "multiples of the clip's own change, times about 58"

    def maps(self, values: Tensor, x: Tensor) -> Tensor:
        """(B, 1, T, H, W) absolute difference on the scale 0 to 255, or (B, 1, T', H, W)."""
        values = values if self.target.absolute else values.abs()
        change = unpatchify(
            undo_scale(values, self.target), self.target.value_size, self.token_grid(x)
        )
        return (change * self.std.view(3, 1, 1, 1)).mean(dim=1, keepdim=True)


class GaborView(TargetView):
    """Oriented energy of each cell: hue, saturation and brightness of one color.

    The hue is the mean orientation, the saturation how much the orientations differ in energy,
    the brightness the amplitude of the strongest filter.
    """

    color_map = None
    unit = 'amplitude (luminance 0 to 1)'

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self.title = 'Gabor energy'
        self.note = 'hue: orientation, brightness: amplitude'

    def maps(self, values: Tensor, x: Tensor) -> Tensor:
        """(B, wavelengths * orientations, T', H / cell, W / cell) amplitudes of luminance."""
        cells = tuple(size // self.target.cell for size in self.target.patch_size[1:])
        return unpatchify(undo_scale(values, self.target), (1, *cells), self.token_grid(x))

    def limit(self, maps: Tensor) -> float:
        """Of the strongest filter."""
        return super().limit(maps.amax(dim=1))

    def colors(self, maps: Tensor, limit: float) -> np.ndarray:
        """(B, T', H / cell, W / cell, 3)."""
        count = self.target.orientations
        energy = maps.unflatten(1, (-1, count)).sum(dim=1)
        angle = (torch.arange(count) * (2 * math.pi / count)).view(-1, 1, 1, 1)
        x, y = (energy * angle.cos()).sum(dim=1), (energy * angle.sin()).sum(dim=1)
        hue = torch.atan2(y, x) / (2 * math.pi) % 1
        saturation = torch.hypot(x, y) / energy.sum(dim=1).clamp_min(1e-6)
        value = (maps.amax(dim=1) / limit).clamp(0, 1)
        hsv = torch.stack([hue, saturation.clamp(0, 1).sqrt(), value], dim=-1)
        hidden = hsv.isnan().any(dim=-1, keepdim=True).numpy()
        return np.where(hidden, np.float32(HIDDEN), hsv_to_rgb(hsv.nan_to_num(0).numpy()))


class CodeView(TargetView):
    """Codes of a tokenizer: each code has a color of its own, one patch per code."""

    color_map = None
    unit = ''

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self.title = 'codes'
        self.note = f'each of {self.target.num_codes} codes has a color of its own'

    def maps(self, values: Tensor, x: Tensor) -> Tensor:
        """(B, 1, T' * n, H', W') codes, n for each token."""
        return unpatchify(values.float(), (values.shape[2], 1, 1), self.token_grid(x))

    def limit(self, maps: Tensor) -> float:
        """Codes have no order."""
        return 1.0

    def colors(self, maps: Tensor, limit: float) -> np.ndarray:
        """(B, T' * n, H', W', 3)."""
        codes = maps[:, 0]
        hue = codes * 0.618034 % 1  # the golden ratio: neighboring codes look different
        hsv = torch.stack([hue, 0.5 + 0.5 * (codes * 0.41421 % 1), 1 - 0.5 * (codes * 0.7 % 1)], -1)
        hidden = hsv.isnan().any(dim=-1, keepdim=True).numpy()
        return np.where(hidden, np.float32(HIDDEN), hsv_to_rgb(hsv.nan_to_num(0).numpy()))


#: How each target is shown; a subclass is shown as its parent, any other as its strength.
VIEWS: dict[type, type[TargetView]] = {
    BaseTarget: TargetView,
    CodeTarget: CodeView,
    ContourTarget: ContourView,
    GaborTarget: GaborView,
    MotionTarget: MotionView,
    PixelTarget: PixelView,
}


def view_of(target: BaseTarget, mean: Tensor, std: Tensor) -> TargetView:
    """Return the view of a target, see :class:`TargetView`."""
    kind = next((VIEWS[cls] for cls in type(target).__mro__ if cls in VIEWS), TargetView)
    return kind(target, mean, std)


def denormalize(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(B, 3, ...) normalized input to RGB in [0, 1], not clipped."""
    shape = (3, *(1,) * (x.dim() - 2))
    return (x * std.view(shape) + mean.view(shape)) / 255


def undo_scale(values: Tensor, target: BaseTarget) -> Tensor:
    """Undo ``power`` and ``scale`` of a target of non-negative values."""
    return (values / target.scale).clamp_min(0).pow(1 / target.power)
