"""RGB pixels, the target of MAE and VideoMAE, and of stage V4."""

import math

import torch
from mmengine.registry import MODELS
from torch import Tensor

from .base import BaseTarget


@MODELS.register_module()
class PixelTarget(BaseTarget):
    """The pixels of a patch or cube (paper: stage V4).

    Args:
        normalize: 'patch', each patch to zero mean and unit variance (MAE);
            'channel', each color channel of each patch (VideoMAE); 'none', the input as it is.
        eps: Added to the variance of a patch, in units of the normalized input. The
            default, (1/58)², is about the rounding of 8-bit pixels, so that a flat patch is not
            blown up to noise of full size (our choice; MAE's is 1e-6).
    """

    name = 'pixel'
    per_pixel = True

    def __init__(self, normalize: str = 'patch', eps: float = 3e-4, **kwargs) -> None:
        super().__init__(**kwargs)
        if normalize not in ('patch', 'channel', 'none'):
            raise ValueError(f"normalize='{normalize}' must be 'patch', 'channel' or 'none'")
        self.normalize = normalize
        self.eps = eps
        self.out_dims = 3 * math.prod(self.patch_size)

    def compute(self, x: Tensor, ids: Tensor | None) -> Tensor:
        """Values in the order channel, frame, row, column."""
        patches = self.take(x, ids)
        if self.normalize == 'none':
            return patches
        _, centered, deviation = self.statistics(patches)
        return (centered / deviation).flatten(2)

    def restore(self, prediction: Tensor, x: Tensor, ids: Tensor) -> Tensor:
        """Undo the normalization with the statistics of the true patches, for pictures.

        Args:
            prediction: (B, M, out_dims).
            x: The input, (B, 3, T, H, W).
            ids: (B, M) the predicted tokens.

        Returns:
            (B, M, out_dims) in units of the normalized input.
        """
        if self.normalize == 'none':
            return prediction
        mean, _, deviation = self.statistics(self.take(x, ids))
        return (prediction.unflatten(2, (mean.shape[2], -1)) * deviation + mean).flatten(2)

    def statistics(self, patches: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, values without it, and deviation, of each patch or of each channel of it.

        Args:
            patches: (B, M, 3 * n).

        Returns:
            (B, M, 1, 1), (B, M, 1, 3 * n), (B, M, 1, 1); with ``normalize='channel'``
            (B, M, 3, 1), (B, M, 3, n), (B, M, 3, 1).
        """
        parts = patches.unflatten(2, (3 if self.normalize == 'channel' else 1, -1))
        mean = parts.mean(dim=-1, keepdim=True)
        centered = parts - mean
        # torch.var would take several times as long on a CPU
        norm = torch.linalg.vector_norm(centered, dim=-1, keepdim=True)
        return mean, centered, (norm.square() / (parts.shape[-1] - 1) + self.eps).sqrt()
