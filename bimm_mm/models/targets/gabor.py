"""Gabor features, the target of stage V1: oriented energy at several scales."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor

from ..layers import patchify, unravel_ids
from .base import BaseTarget

# Filter only windows around the wanted tokens while these hold at most this many times the pixels
# of the frames; beyond that, filter whole frames.
WINDOWS_WORTH = 3


@MODELS.register_module()
class GaborTarget(BaseTarget):
    """Magnitudes of a bank of Gabor filters on luminance (paper: stage V1; the bank is ours).

    For each orientation and wavelength a pair of an even and an odd filter is applied, with a
    Gaussian envelope of one octave bandwidth. The magnitude of the pair varies slowly, so it is
    sampled once or twice per side of a cell (short wavelengths twice), averaged over the cell,
    and over the frames of a tubelet. It does not depend on the sign of the contrast, and is zero
    where the input is flat, up to rounding (on GPUs that of TF32, as torch's convolutions have it).

    Can be the target generator of mmpretrain's MaskFeat: without ``ids`` it returns all tokens.

    Args:
        wavelengths: In pixels, at least 2.
        orientations: Number of orientations, evenly spaced over 180°.
        cell: Side of a cell in pixels; divides the patch size.
        scale: One constant for all patches. The default gives values with a standard
            deviation of about 1 on web videos (our choice; see docs/method.md).
        power: Exponent applied to the averaged magnitude before scaling, in (0, 1].
    """

    name = 'gabor'

    def __init__(
        self,
        wavelengths: Sequence[float] = (4, 6, 9, 13),
        orientations: int = 8,
        cell: int = 4,
        scale: float = 64.0,
        power: float = 1.0,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        frames, height, width = self.patch_size
        if cell % 2 or height % cell or width % cell:
            raise ValueError(f'cell={cell} must be even and divide the patch, {height}x{width}')
        if min(wavelengths) < 2:
            raise ValueError(f'wavelengths={tuple(wavelengths)} must be at least 2 pixels')
        self.wavelengths = tuple(wavelengths)
        self.orientations = orientations
        self.cell = cell
        self.scale = scale
        self.power = power
        self.out_dims = len(wavelengths) * orientations * (height // cell) * (width // cell)
        self.strides = [cell if wavelength >= 2 * cell else cell // 2 for wavelength in wavelengths]
        self.margins = []  # pixels that a wavelength's filters see beyond each side of a token
        for index, (wavelength, stride) in enumerate(zip(wavelengths, self.strides, strict=True)):
            bank = gabor_bank(wavelength, orientations, even_size=stride % 2 == 0)
            self.register_buffer(f'bank{index}', bank[:, None], persistent=False)
            self.margins.append((bank.shape[-1] - stride) // 2)
        self.margin = max(self.margins)

    def compute(self, x: Tensor, ids: Tensor | None) -> Tensor:
        """Values in the order wavelength and orientation, cell row, cell column."""
        tubelet, height, width = self.patch_size
        frames = F.pad(self.luminance(x), (self.margin,) * 4, mode='replicate')
        seen = tubelet * (height + 2 * self.margin) * (width + 2 * self.margin)  # of a token
        if ids is not None and ids.shape[1] * seen <= WINDOWS_WORTH * frames[0].numel():
            windows = self.windows(frames, ids).flatten(0, 2)[:, None]
            energy = self.by_frames(self.energy, windows, tubelet).view(*ids.shape, self.out_dims)
        else:
            energy = self.by_frames(self.energy, frames.flatten(0, 1)[:, None], tubelet)
            energy = energy.unflatten(0, (len(x), -1)).transpose(1, 2)
            energy = patchify(energy, (1, height // self.cell, width // self.cell), ids)
        return (energy if self.power == 1 else energy.pow_(self.power)).mul_(self.scale)

    def windows(self, frames: Tensor, ids: Tensor) -> Tensor:
        """What the filters see of a few patches, which costs less than filtering whole frames.

        Padded frames (B, T, H + 2m, W + 2m) and (B, M) tokens to (B, M, t, h + 2m, w + 2m).
        """
        tubelet, height, width = self.patch_size
        beyond = 2 * self.margin
        windows = frames.unfold(2, height + beyond, height).unfold(3, width + beyond, width)
        windows = windows.unflatten(1, (-1, tubelet))
        sample, frame, row, column = unravel_ids(ids, *windows.shape[3:5])
        return windows[sample, frame, :, row, column]

    def energy(self, image: Tensor) -> Tensor:
        """Magnitudes of cells, averaged over the frames of each tubelet.

        (N, 1, H + 2m, W + 2m), padded, to (N / tubelet, wavelengths * orientations, H / cell,
        W / cell).
        """
        parts, tubelet = [], self.patch_size[0]
        for index, stride in enumerate(self.strides):
            magnitude = self.magnitude(image, index)
            magnitude = magnitude.unflatten(0, (len(image) // tubelet, tubelet))
            parts.append(F.avg_pool2d(magnitude.mean(dim=1), self.cell // stride))
        return torch.cat(parts, dim=1)

    def magnitude(self, image: Tensor, index: int) -> Tensor:
        """Response of one wavelength: (N, 1, H + 2m, W + 2m) to (N, orientations, H / s, W / s)."""
        bank, stride = getattr(self, f'bank{index}'), self.strides[index]
        image = F.pad(image, (self.margins[index] - self.margin,) * 4)  # cuts off
        even, odd = F.conv2d(image, bank, stride=stride).chunk(2, dim=1)
        return torch.hypot(even, odd)


def gabor_bank(wavelength: float, orientations: int, even_size: bool) -> Tensor:
    """Even, then odd Gabor filters of one wavelength, with a bandwidth of one octave.

    A grating of the filter's wavelength, orientation and amplitude a gives a magnitude of a; a
    flat image gives 0.

    Args:
        wavelength: In pixels.
        orientations: N; filter k has its wave vector at k * 180° / n from the x axis.
        even_size: Whether the filter has an even side, so that its center lies between
            pixels, as the center of a cell does.

    Returns:
        (2 * n, side, side) float32.
    """
    sigma = wavelength / math.pi * math.sqrt(math.log(2) / 2) * 3  # (2^b + 1) / (2^b - 1), b = 1
    side = 2 * math.ceil(2.5 * sigma) + (not even_size)
    position = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    y, x = torch.meshgrid(position, position, indexing='ij')
    envelope = torch.exp(-(x**2 + y**2) / (2 * sigma**2))
    envelope = envelope / envelope.sum()
    angle = torch.arange(orientations, dtype=torch.float64) * math.pi / orientations
    wave = x * angle.cos()[:, None, None] + y * angle.sin()[:, None, None]
    wave = wave * (2 * math.pi / wavelength)
    even, odd = wave.cos() * envelope, wave.sin() * envelope
    even = even - even.sum(dim=(1, 2), keepdim=True) * envelope
    return 2 * torch.cat([even, odd]).float()
