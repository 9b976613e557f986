"""The same random positions in every frame, or whole frames."""

import math

import torch
from mmengine.registry import MODELS

from .base import Masks, repeat_over_time
from .random import RandomMasking


@MODELS.register_module()
class TubeMasking(RandomMasking):
    """Mask the same random positions in every frame (VideoMAE; paper: the dorsal branch).

    Args:
        ratio: Share of the positions of a frame that is masked, in (0, 1).
    """

    def __call__(
        self,
        batch_size: int,
        grid: tuple[int, int, int],
        device: torch.device | str = 'cpu',
        generator: torch.Generator | None = None,
    ) -> Masks:
        """Draw masks; see :class:`BaseMasking`."""
        area = math.prod(grid[1:])
        return repeat_over_time(self.split(batch_size, area, device, generator), grid[0], area)


@MODELS.register_module()
class FrameMasking(RandomMasking):
    """Mask whole frames, drawn at random (MAE-ST and SlowFast: "time-only").

    Args:
        ratio: Share of the tubelets along time that is masked, in (0, 1).
    """

    def __call__(
        self,
        batch_size: int,
        grid: tuple[int, int, int],
        device: torch.device | str = 'cpu',
        generator: torch.Generator | None = None,
    ) -> Masks:
        """Draw masks; see :class:`BaseMasking`."""
        frames = self.split(batch_size, grid[0], device, generator)
        tokens = torch.arange(math.prod(grid[1:]), device=device)
        return Masks(*((ids[..., None] * len(tokens) + tokens).flatten(1) for ids in frames))
