"""Running cells, the decoder's mask of VideoMAE V2."""

import torch
from mmengine.registry import MODELS

from ...utils import draws
from .base import BaseMasking, Masks, split_mask

SIDE = 2  # of a cell, in patches


@MODELS.register_module()
class RunningCellMasking(BaseMasking):
    """Mask a pattern of 2 x 2 patches that moves on from frame to frame (VideoMAE V2).

    If k of the pattern's four patches are masked, every patch is masked in exactly k of any four
    consecutive tubelets. As ``decoder_masking`` of a branch, its masked tokens are those that are
    decoded. The pattern's phase is drawn for each sample.

    Args:
        ratio: Share of the tokens that is masked, that is decoded: 0.25, 0.5 or 0.75 (VideoMAE V2
            calls 1 - ratio the decoder's mask ratio, and takes 0.5).

    Raises:
        ValueError: The ratio is another one, or the grid has an odd side.
    """

    def __init__(self, ratio: float = 0.5) -> None:
        if ratio not in (0.25, 0.5, 0.75):
            raise ValueError(f'ratio={ratio} must be 0.25, 0.5 or 0.75')
        self.ratio = ratio

    def __call__(
        self,
        batch_size: int,
        grid: tuple[int, int, int],
        device: torch.device | str = 'cpu',
        generator: torch.Generator | None = None,
    ) -> Masks:
        """Draw masks; see :class:`BaseMasking`."""
        frames, rows, columns = grid
        if rows % SIDE or columns % SIDE:
            raise ValueError(
                f'grid={tuple(grid)}: RunningCellMasking needs even numbers of rows and columns'
            )
        cells = SIDE * SIDE
        kept = round((1 - self.ratio) * cells)
        phase = draws.randint(cells, (batch_size, 1, 1), device, generator)
        frame = torch.arange(frames, device=device)[:, None]
        place = torch.arange(cells, device=device)
        # the queue of kept, then masked patches, read in a circle, a step further in each frame
        pattern = (phase + 1 + frame + place) % cells >= kept  # (B, T', 4)
        cell = pattern.view(batch_size, frames, SIDE, SIDE)
        mask = cell.repeat(1, 1, rows // SIDE, columns // SIDE).flatten(1)
        return split_mask(mask, mask.shape[1] * (cells - kept) // cells)
