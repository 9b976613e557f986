"""Which tokens the encoder sees and which are predicted, as index pairs for a whole batch."""

import math

import torch
from mmengine.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class RandomMasking:
    """Mask random tokens, independently of each other (MAE; paper: the ventral branch).

    Args:
        ratio (float): share of the tokens that is masked, in (0, 1). The number of masked tokens
            is ``ratio`` times the number of tokens, rounded to the nearest integer, and the same
            in every sample. At least one token stays visible and one is masked.
    """

    def __init__(self, ratio: float = 0.75) -> None:
        if not 0 < ratio < 1:
            raise ValueError(f'ratio={ratio} must lie between 0 and 1, both excluded')
        self.ratio = ratio

    def __call__(
        self,
        batch_size: int,
        grid: tuple[int, int, int],
        device: torch.device | str = 'cpu',
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Draw the masks of a batch.

        Args:
            batch_size (int): B.
            grid (tuple[int, int, int]): (T', H', W') in tokens; an image has T' = 1.
            device (torch.device | str): where the masks are made.
            generator (torch.Generator, optional): source of randomness, on ``device``. The
                global one of the device when left out.

        Returns:
            tuple[Tensor, Tensor]: ``ids_keep`` (B, K) and ``ids_mask`` (B, M), both ascending;
            together every token once.
        """
        return self.split(batch_size, math.prod(grid), device, generator)

    def split(
        self,
        batch_size: int,
        count: int,
        device: torch.device | str,
        generator: torch.Generator | None,
    ) -> tuple[Tensor, Tensor]:
        """Split ``range(count)`` at random, for each sample: (B, kept) and (B, masked)."""
        keep = self.num_visible(count)
        order = torch.rand(batch_size, count, device=device, generator=generator).argsort(dim=1)
        return order[:, :keep].sort(dim=1).values, order[:, keep:].sort(dim=1).values

    def num_visible(self, count: int) -> int:
        """How many of ``count`` positions stay visible; a ValueError if it is all or none."""
        masked = math.floor(self.ratio * count + 0.5)
        if not 0 < masked < count:
            raise ValueError(
                f'ratio={self.ratio} masks {masked} of {count} positions: '
                'at least one must be masked and one stay visible'
            )
        return count - masked

    def __repr__(self) -> str:
        return f'{type(self).__name__}(ratio={self.ratio})'


@MODELS.register_module()
class TubeMasking(RandomMasking):
    """Mask the same random positions in every frame (VideoMAE; paper: the dorsal branch).

    Args:
        ratio (float): share of the positions of a frame that is masked, in (0, 1).
    """

    def __call__(
        self,
        batch_size: int,
        grid: tuple[int, int, int],
        device: torch.device | str = 'cpu',
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        frames, area = grid[0], math.prod(grid[1:])
        offsets = torch.arange(frames, device=device)[:, None] * area
        return tuple(
            (ids[:, None] + offsets).flatten(1)
            for ids in self.split(batch_size, area, device, generator)
        )
