"""Latents of an encoder as targets: the alignment of CAE and MAM2."""

import math

import torch
from mmengine.registry import MODELS
from torch import Tensor

from ..step import Step
from .base import BaseTarget


@MODELS.register_module()
class LatentTarget(BaseTarget):
    """What the branch's own encoder makes of the masked tokens alone (CAE's alignment).

    The encoder has the weights of the moment (CAE: an average with momentum 0) and gets no
    gradient. Where the regressor is not as wide as the encoder, its projection is applied, too.
    It costs a forward pass over the masked tokens, so it is worth leaving out with weight 0.

    Args:
        out_dims: Width of the regressor.
        name: Under which the loss is logged.
    """

    def __init__(self, out_dims: int, name: str = 'latent', **kwargs) -> None:
        super().__init__(**kwargs)
        self.out_dims = out_dims
        self.name = name

    @torch.no_grad()
    def from_step(self, step: Step, ids: Tensor | None) -> Tensor:
        """Latents (B, M, out_dims) float32 of the tokens ``ids`` (B, M), seen by themselves."""
        if ids is None:
            ids = torch.arange(math.prod(step.grid), device=step.x.device).repeat(len(step.x), 1)
        latents = step.encode(ids).float()
        if latents.shape[2] != self.out_dims:
            raise ValueError(
                f'out_dims={self.out_dims}, but the encoder gives latents of {latents.shape[2]}'
            )
        return latents
