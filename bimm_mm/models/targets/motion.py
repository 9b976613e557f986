"""Motion as the change from frame to frame, the target of stage MT and of MAM2."""

import math

import torch
from mmengine.registry import MODELS
from torch import Tensor

from ..layers import patchify
from ..step import Step
from .base import BaseTarget

DIFFERENCES = ('forward', 'intra')
NORMALIZATIONS = ('none', 'clip')


@MODELS.register_module()
class MotionTarget(BaseTarget):
    """The difference of temporally adjacent frames, absolute (paper: stage MT) or signed (MAM2).

    Frame i is compared with frame i + 1 of the sampled clip, for each channel, so that every cube
    has as many values as it has pixels. The last frame is compared with the one after the clip,
    where clips come with one frame more than the encoder takes (``clip_len`` larger by 1); else
    the last difference is repeated (both our choice).

    Args:
        scale: One constant for all patches; normalizing each patch would blow up the noise of
            static ones. The default gives absolute differences with a standard deviation of about
            1 on web videos (our choice; see docs/method.md).
        power: Exponent applied to the size of the difference before scaling, in (0, 1]; below 1 it
            compresses strong contrasts.
        absolute: Whether the sign is left out (paper: the L1 difference), or kept (RGB difference;
            MAM2's paper names it, but not its formula).
        difference: 'forward' as above; 'intra' takes one difference per cube, from its first to its
            last frame, and a token has as many values as a frame of it has pixels (our choice).
        normalize: 'none', or 'clip': differences are divided by their root mean square over the
            clip, so that slow and fast clips count alike (our choice).

    Raises:
        ValueError: An argument is out of range, or 'intra' is asked for cubes of one frame.
    """

    name = 'motion'

    def __init__(
        self,
        scale: float = 2.0,
        power: float = 1.0,
        absolute: bool = True,
        difference: str = 'forward',
        normalize: str = 'none',
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        for key, value, known in (
            ('difference', difference, DIFFERENCES),
            ('normalize', normalize, NORMALIZATIONS),
        ):
            if value not in known:
                raise ValueError(f"{key}='{value}' must be {' or '.join(map(repr, known))}")
        if difference == 'intra' and self.patch_size[0] < 2:
            raise ValueError(
                f"difference='intra' needs cubes of at least 2 frames, not {self.patch_size[0]}"
            )
        self.scale = scale
        self.power = power
        self.absolute = absolute
        self.difference = difference
        self.normalize = normalize
        self.per_pixel = difference == 'forward'
        self.out_dims = 3 * math.prod(self.value_size)

    @property
    def wants_next_frame(self) -> bool:
        """Whether the frame after the clip is of use, as side input 'next_frame' (B, 3, H, W)."""
        return self.difference == 'forward'

    @property
    def value_size(self) -> tuple[int, int, int]:
        """Frames, rows and columns of the values of a token."""
        return (1, *self.patch_size[1:]) if self.difference == 'intra' else self.patch_size

    def compute(self, x: Tensor, ids: Tensor | None) -> Tensor:
        """Values in the order channel, frame, row, column; non-negative where ``absolute``."""
        if x.shape[2] < 2:
            raise ValueError('MotionTarget needs a clip of at least 2 frames, and got 1')
        if self.difference == 'intra':
            tubelet = self.patch_size[0]
            return self.shape(x[:, :, tubelet - 1 :: tubelet] - x[:, :, ::tubelet], ids)
        change = x[:, :, 1:] - x[:, :, :-1]
        return self.shape(torch.cat([change, change[:, :, -1:]], dim=2), ids)

    @torch.no_grad()
    def from_step(self, step: Step, ids: Tensor | None) -> Tensor:
        """As :meth:`forward`, of the input; with the frame after it, where it is known."""
        after = step.side.get('next_frame') if self.wants_next_frame else None
        if after is None:
            return self(step.x, ids)
        with torch.autocast(step.x.device.type, enabled=False):
            frames = torch.cat([step.x.float(), after.float()[:, :, None]], dim=2)
            return self.shape(frames[:, :, 1:] - frames[:, :, :-1], ids)

    def shape(self, change: Tensor, ids: Tensor | None) -> Tensor:
        """Turn signed changes (B, 3, T or T', H, W) into the values of the tokens ``ids``."""
        if self.absolute:
            change = change.abs_()
        if self.normalize == 'clip':
            size = torch.linalg.vector_norm(change.flatten(1), dim=1) / change[0].numel() ** 0.5
            # a static clip stays static: 1e-3 is a tenth of a gray level
            change = change / size.clamp_min(1e-3).view(-1, 1, 1, 1, 1)
        change = patchify(change, self.value_size, ids)
        if self.power != 1:
            change = change.sign() * change.abs().pow_(self.power)
        return change.mul_(self.scale)
