"""VIMPAC's masking: the union of random blocks, whose share varies from clip to clip."""

import torch
from mmengine.registry import MODELS
from torch import Tensor

from ...utils import draws
from .base import BaseMasking, Masks


@MODELS.register_module()
class VimpacMasking(BaseMasking):
    """Mask the union of a few random blocks (VIMPAC, section 3.2), or tokens one by one.

    A block's length, height and width are uniform from 1 to 2/3 of the clip's frames and to half
    of its rows and columns, rounded down (as the authors' code has it; the paper's table 2 fits
    this too, and not rounding up), and its place is uniform among those where it fits. Blocks may
    overlap: the share of masked tokens differs from clip to clip. Its mean is 14.5 % for 5 blocks
    in 5 x 16 x 16 tokens. Only encoders that keep masked tokens can use it.

    Args:
        num_blocks: Blocks per clip. The paper takes the number that comes closest to 15 %: 5 and 6
            blocks for 5 and 10 frames of 16 x 16 tokens, 6 and 7 for 32 x 32.
        ratio: Instead of blocks, mask every token with this probability (the paper's ablation).
            Exactly one of the two is given.
    """

    def __init__(self, num_blocks: int | None = None, ratio: float | None = None) -> None:
        if (num_blocks is None) == (ratio is None):
            raise ValueError(f'give one of num_blocks={num_blocks} and ratio={ratio}')
        if num_blocks is not None and num_blocks < 1:
            raise ValueError(f'num_blocks={num_blocks} must be at least 1')
        if ratio is not None and not 0 < ratio < 1:
            raise ValueError(f'ratio={ratio} must lie between 0 and 1, both excluded')
        self.num_blocks, self.ratio = num_blocks, ratio

    def __call__(
        self,
        batch_size: int,
        grid: tuple[int, int, int],
        device: torch.device | str = 'cpu',
        generator: torch.Generator | None = None,
    ) -> Masks:
        """Draw the masks of a batch; rows are filled up to the length of the longest.

        Args:
            batch_size: B.
            grid: (T', H', W'): at least 2 frames, rows and columns for blocks.
            device: Where the masks are made.
            generator: Source of randomness, on ``device``.

        Raises:
            ValueError: If no block fits into the grid.
        """
        mask = self.draw_mask(batch_size, grid, device, generator).flatten(1)
        counts = mask.sum(dim=1, keepdim=True)  # (B, 1)
        ids_mask = _first(~mask, counts)
        weight = torch.arange(ids_mask.shape[1], device=mask.device) < counts
        return Masks(_first(mask, mask.shape[1] - counts), ids_mask, weight.float())

    def draw_mask(
        self,
        batch_size: int,
        grid: tuple[int, int, int],
        device: torch.device | str = 'cpu',
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw masks as (B, T', H', W') bool, True where a token is masked."""
        if self.ratio is not None:
            drawn = draws.rand((batch_size, *grid), device, generator)
            return drawn < self.ratio
        return self.draw_blocks(batch_size, grid, device, generator).any(dim=1)

    def draw_blocks(
        self,
        batch_size: int,
        grid: tuple[int, int, int],
        device: torch.device | str = 'cpu',
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw the blocks one by one: (B, num_blocks, T', H', W') bool."""
        largest = (grid[0] * 2 // 3, grid[1] // 2, grid[2] // 2)
        if min(largest) < 1:
            raise ValueError(
                f'no block fits into a grid of {tuple(grid)} tokens: at least 2 frames, rows and '
                'columns are needed'
            )
        drawn = draws.rand((2, 3, batch_size, self.num_blocks), device, generator, dim=2)
        inside = []
        for axis, (length, most) in enumerate(zip(grid, largest, strict=True)):
            size = (drawn[0, axis] * most).floor() + 1  # (B, K)
            start = (drawn[1, axis] * (length - size + 1)).floor()
            place = torch.arange(length, device=device)
            begin, end = start[..., None], (start + size)[..., None]
            inside.append((place >= begin) & (place < end))  # (B, K, length)
        time, rows, columns = inside
        return time[..., None, None] & rows[:, :, None, :, None] & columns[:, :, None, None]

    def __repr__(self) -> str:
        return f'{type(self).__name__}(num_blocks={self.num_blocks}, ratio={self.ratio})'


def _first(mask: Tensor, counts: Tensor) -> Tensor:
    """Where ``mask`` is False, ascending, ``counts`` places in each row; the last is repeated."""
    order = mask.to(torch.uint8).argsort(dim=1, stable=True)
    place = torch.arange(int(counts.max()), device=mask.device).expand(len(mask), -1)
    return order.gather(1, place.minimum(counts - 1).clamp_min(0))
