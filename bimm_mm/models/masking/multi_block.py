"""Unions of large blocks that last the whole clip (V-JEPA)."""

import math
from collections.abc import Sequence

import torch
from mmengine.registry import MODELS
from torch import Tensor

from ...utils import draws
from .base import BaseMasking, Masks


@MODELS.register_module()
class MultiBlockMasking(BaseMasking):
    """Mask the union of large blocks that last the whole clip (V-JEPA, Bardes et al., 2024).

    All blocks of a batch have one size; their corners are drawn for each sample. Both visible and
    masked tokens are cut to the shortest row of the batch, the first ones being kept, so a few
    tokens are neither; to find it, the host waits for the device once.

    V-JEPA draws two masks for each clip, with 8 small blocks and with 2 large ones; this is one of
    them.

    Args:
        num_blocks: Blocks of a sample (V-JEPA: 8, "short range", or 2, "long range").
        spatial_scale: Smallest and largest share of a frame that a block covers (V-JEPA: 0.15, or
            0.7).
        temporal_scale: Smallest and largest share of the clip that it lasts (V-JEPA: 1).
        aspect_ratio: Smallest and largest ratio of height to width (V-JEPA: 0.75 to 1.5).

    Raises:
        ValueError: An argument is out of range, or blocks leave nothing visible.
    """

    def __init__(
        self,
        num_blocks: int = 8,
        spatial_scale: Sequence[float] = (0.15, 0.15),
        temporal_scale: Sequence[float] = (1.0, 1.0),
        aspect_ratio: Sequence[float] = (0.75, 1.5),
    ) -> None:
        if num_blocks < 1:
            raise ValueError(f'num_blocks={num_blocks} must be at least 1')
        for name, (low, high), most in (
            ('spatial_scale', spatial_scale, 1),
            ('temporal_scale', temporal_scale, 1),
            ('aspect_ratio', aspect_ratio, math.inf),
        ):
            if not 0 < low <= high <= most:
                raise ValueError(f'{name}={(low, high)} must be 0 < low <= high <= {most}')
        self.num_blocks = num_blocks
        self.spatial_scale, self.temporal_scale = tuple(spatial_scale), tuple(temporal_scale)
        self.aspect_ratio = tuple(aspect_ratio)

    def __call__(
        self,
        batch_size: int,
        grid: tuple[int, int, int],
        device: torch.device | str = 'cpu',
        generator: torch.Generator | None = None,
    ) -> Masks:
        """Draw masks; see :class:`BaseMasking`. Tokens cut off are in neither row."""
        frames, rows, columns = grid
        share, length, aspect = (
            low + (high - low) * draws.rand_once(device, generator)
            for low, high in (self.spatial_scale, self.temporal_scale, self.aspect_ratio)
        )
        area = int(rows * columns * share)
        size = (
            max(int(frames * length), 1),
            min(max(round(math.sqrt(area * aspect)), 1), rows),
            min(max(round(math.sqrt(area / aspect)), 1), columns),
        )
        if size == tuple(grid):
            raise ValueError(
                f'blocks of {size} tokens fill the grid {tuple(grid)}: make spatial_scale smaller'
            )
        sizes = torch.tensor(size, device=device).expand(batch_size, self.num_blocks, 3)
        mask = union_of_blocks(sizes, grid, generator).flatten(1)
        # a sample of which nothing is left keeps its last token, where V-JEPA would draw again
        mask[:, -1] &= ~mask.all(dim=1)
        return shorten(mask)


def union_of_blocks(
    sizes: Tensor, grid: tuple[int, int, int], generator: torch.Generator | None
) -> Tensor:
    """Place blocks at random where they fit, and mask all that they cover.

    Args:
        sizes: (B, K, 3) frames, rows and columns of the K blocks of each sample.
        grid: (T', H', W').
        generator: Source of randomness, on the device of ``sizes``.

    Returns:
        (B, T', H', W') bool.
    """
    room = torch.tensor(grid, device=sizes.device) - sizes + 1
    chance = draws.rand(sizes.shape, sizes.device, generator)
    start = (chance * room).long()
    mask = sizes.new_ones((*sizes.shape[:2], 1, 1, 1), dtype=torch.bool)
    for axis, length in enumerate(grid):
        place = torch.arange(length, device=sizes.device)
        first, size = start[..., axis, None], sizes[..., axis, None]
        inside = (place >= first) & (place < first + size)  # (B, K, n)
        mask = mask & inside.unflatten(2, [length if i == axis else 1 for i in range(3)])
    return mask.any(dim=1)


def shorten(mask: Tensor) -> Masks:
    """Cut rows of visible and of masked tokens, of masks (B, N), to the global batch's shortest."""
    masked = mask.sum(dim=1)
    extremes = draws.over_processes(torch.stack([masked.max(), -masked.min()]), 'max')
    most, least = extremes[0].item(), -extremes[1].item()
    order = mask.to(torch.uint8).argsort(dim=1, stable=True)  # visible first, both ascending
    hidden = (~mask).to(torch.uint8).argsort(dim=1, stable=True)
    return Masks(order[:, : mask.shape[1] - most], hidden[:, :least])
