"""What prediction targets have in common."""

import math
from collections.abc import Callable, Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor

from ..layers import take_patches

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601
FEW_PIXELS = 8 * 224**2  # as many stay in a CPU's cache, with what is computed from them


class BaseTarget(BaseModule):
    """A target generator: what a stage is to predict, computed from the input itself.

    A subclass has a ``name``, under which its loss is logged, ``out_dims``, the number of values
    per token, and ``compute``. ``channels`` are those of the input that it is given. ``per_pixel``
    says that there is a value for each pixel, in the order channel, frame, row, column.

    Args:
        patch_size (tuple[int, int, int]): frames, rows and columns of a token. A branch fills in
            its encoder's.
        mean (Sequence[float]): what was subtracted from the RGB channels, on the scale 0 to 255.
        std (Sequence[float]): what they were divided by. A branch fills in its preprocessor's.
    """

    name: str
    out_dims: int
    channels = slice(3)  # the colours
    per_pixel = False

    def __init__(
        self,
        patch_size: tuple[int, int, int] = (1, 16, 16),
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.patch_size = tuple(patch_size)
        mean, std = torch.tensor(mean) / 255, torch.tensor(std) / 255
        luminance = torch.tensor(LUMINANCE)
        # luminance straight from normalised channels: sum(w * (x * std + mean))
        self.register_buffer('luminance_weight', (luminance * std).view(3, 1, 1, 1), False)
        self.luminance_bias = float((luminance * mean).sum())

    @torch.no_grad()
    def forward(self, x: Tensor, ids: Tensor | None = None) -> Tensor:
        """Compute the target.

        Args:
            x (Tensor): (B, 3, H, W) images or (B, 3, T, H, W) clips, normalised. A fourth channel
                holds contours in [0, 1].
            ids (Tensor, optional): (B, M) tokens whose target is wanted; all when left out.

        Returns:
            Tensor: (B, M, out_dims) float32, without gradient.
        """
        x = x if x.dim() == 5 else x[:, :, None]
        with torch.autocast(x.device.type, enabled=False):
            return self.compute(x[:, self.channels].float(), ids)

    def compute(self, x: Tensor, ids: Tensor | None) -> Tensor:
        """(B, channels, T, H, W) float32 and (B, M) tokens to (B, M, out_dims)."""
        raise NotImplementedError

    def luminance(self, x: Tensor) -> Tensor:
        """(B, 3, T, H, W) normalised RGB to (B, T, H, W) luminance in [0, 1]."""
        return (x * self.luminance_weight).sum(dim=1) + self.luminance_bias

    @staticmethod
    def by_frames(
        function: Callable[[Tensor], Tensor], frames: Tensor, together: int = 1
    ) -> Tensor:
        """Apply a function of frames (N, 1, H, W), on a CPU to as many as its cache holds.

        ``together`` divides N; so many frames in a row are never torn apart.
        """
        if frames.device.type != 'cpu':
            return function(frames)
        few = max(FEW_PIXELS // math.prod(frames.shape[1:]) // together, 1) * together
        return torch.cat([function(part) for part in frames.split(few)])

    def take(self, x: Tensor, ids: Tensor | None) -> Tensor:
        """The patches of (B, C, T, H, W) with the indices ``ids`` (B, M)."""
        return take_patches(x, self.patch_size, ids)
