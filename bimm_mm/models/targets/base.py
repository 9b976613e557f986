"""What prediction targets have in common."""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor

from ..layers import patchify
from ..losses import explained_variance, weighted_mean
from ..step import Step

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601
FEW_PIXELS = 8 * 224**2  # as many stay in a CPU's cache, with what is computed from them


class BaseTarget(BaseModule):
    """A prediction target: what it is, how far a prediction is from it, and how good that is.

    A subclass has a ``name``, under which its loss is logged, ``out_dims``, the number of values
    that a decoder predicts per token, and :meth:`compute`. A target that needs more than the
    pixels (codes, contours, the features of an encoder) defines :meth:`from_step` instead, and one
    that is not to be fitted by least squares its own :meth:`loss`, :meth:`score` and
    ``score_name``.

    ``per_pixel`` says that there is a value for each pixel, in the order channel, frame, row,
    column.

    Args:
        patch_size: Frames, rows and columns of a token. A branch fills in its encoder's.
        mean: What was subtracted from the RGB channels, on the scale 0 to 255.
        std: What they were divided by. A branch fills in its preprocessor's.
    """

    name: str
    out_dims: int
    per_pixel = False
    score_name = 'explained'

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
        # luminance straight from normalized channels: sum(w * (x * std + mean))
        self.register_buffer('luminance_weight', (luminance * std).view(3, 1, 1, 1), False)
        self.luminance_bias = float((luminance * mean).sum())

    @torch.no_grad()
    def forward(self, x: Tensor, ids: Tensor | None = None) -> Tensor:
        """Compute the target from an input.

        Args:
            x: (B, C, H, W) images or (B, C, T, H, W) clips, normalized RGB unless the target says
                otherwise.
            ids: (B, M) tokens whose target is wanted; all when left out.

        Returns:
            (B, M, out_dims) float32, without gradient.
        """
        x = x if x.dim() == 5 else x[:, :, None]
        with torch.autocast(x.device.type, enabled=False):
            return self.compute(x.float(), ids)

    def from_step(self, step: Step, ids: Tensor | None) -> Tensor:
        """Compute the target from what a branch knows; by default, from its input.

        Args:
            step: With masks, and features of the encoder.
            ids: (B, M) tokens whose target is wanted; all for None.
        """
        return self(step.x, ids)

    def compute(self, x: Tensor, ids: Tensor | None) -> Tensor:
        """(B, C, T, H, W) float32 and (B, M) tokens to (B, M, out_dims)."""
        raise NotImplementedError

    def loss(self, prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Mean squared error.

        Args:
            prediction: (B, M, out_dims).
            target: What :meth:`from_step` gave, (B, M, out_dims).
            weight: (B, M), where tokens count differently.

        Returns:
            A scalar.
        """
        if weight is None:
            return F.mse_loss(prediction.float(), target)
        return weighted_mean((prediction.float() - target).square(), weight, over_processes=True)

    def score(self, prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """How good predictions are, in a number that can be compared: the explained variance.

        It is logged as ``{score_name}_{branch}_{name}``. NaN, where it is not defined, is left out
        of averages.
        """
        return explained_variance(prediction, target, weight)

    def decode(self, prediction: Tensor) -> Tensor:
        """Turn predictions into values that can be compared with the target, for pictures."""
        return prediction

    def luminance(self, x: Tensor) -> Tensor:
        """(B, 3, T, H, W) normalized RGB to (B, T, H, W) luminance in [0, 1]."""
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
        return patchify(x, self.patch_size, ids)
