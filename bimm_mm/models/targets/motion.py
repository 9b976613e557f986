"""Motion as the change from frame to frame, the target of stage MT."""

import math

import torch
from mmengine.registry import MODELS
from torch import Tensor

from .base import BaseTarget


@MODELS.register_module()
class MotionTarget(BaseTarget):
    """The L1 difference of temporally adjacent frames (paper: stage MT).

    Frame i is compared with frame i + 1 of the sampled clip, for each channel; the last
    difference is repeated, so that every cube has as many values as it has pixels (our choice).

    Args:
        scale: One constant for all patches; normalizing each patch would blow up the
            noise of static ones. The default gives values with a standard deviation of about 1
            on web videos (our choice; see docs/method.md).
        power: Exponent applied to the difference before scaling, in (0, 1]; below 1 it
            compresses strong contrasts.
    """

    name = 'motion'
    per_pixel = True

    def __init__(self, scale: float = 2.0, power: float = 1.0, **kwargs) -> None:
        super().__init__(**kwargs)
        self.scale = scale
        self.power = power
        self.out_dims = 3 * math.prod(self.patch_size)

    def compute(self, x: Tensor, ids: Tensor | None) -> Tensor:
        """Values in the order channel, frame, row, column; non-negative."""
        if x.shape[2] < 2:
            raise ValueError('MotionTarget needs a clip of at least 2 frames, and got 1')
        change = (x[:, :, 1:] - x[:, :, :-1]).abs_()
        change = torch.cat([change, change[:, :, -1:]], dim=2)
        change = self.take(change, ids)
        return (change if self.power == 1 else change.pow_(self.power)).mul_(self.scale)
