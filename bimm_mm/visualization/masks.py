"""Pictures of maskings: which tokens of a clip each of them hides (our choice)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ..models import BaseMasking, Step
from ..models.layers import ids_to_mask
from ..models.masking import draw_masks
from .canvas import Canvas
from .views import HIDDEN

MARGIN, GAP, LABEL = 20, 6, 290


def draw_maskings(
    clip: Tensor,
    maskings: Mapping[str, BaseMasking],
    grid: tuple[int, int, int],
    seed: int = 0,
    cell: int = 112,
    side: Mapping[str, Any] | None = None,
) -> Figure:
    """Draw a row for each masking, a column for each slot of tokens along time.

    Args:
        clip: (3, T, H, W) uint8 RGB; T, H and W are multiples of the grid.
        maskings: By the name that is written beside the row. What is masked is gray.
        grid: (T', H', W') in tokens.
        seed: Of the masks, the same for all.
        cell: Side of an image in pixels.
        side: Side inputs by name, of a batch of this clip alone, as 'caption' and 'motion_vectors'.

    Raises:
        ValueError: The grid does not divide the clip.
    """
    size = tuple(clip.shape[1:])
    if any(length % n for length, n in zip(size, grid, strict=True)):
        raise ValueError(f'grid={tuple(grid)} does not divide the clip of {size}')
    frames = (clip.permute(1, 2, 3, 0).float() / 255).numpy()  # (T, H, W, 3)
    frames = frames[:: size[0] // grid[0]]
    normalized = clip[None].float() / 255
    height = len(maskings) * (cell + GAP) + 2 * MARGIN
    canvas = Canvas(2 * MARGIN + LABEL + grid[0] * (cell + GAP), height)
    for row, (name, masking) in enumerate(maskings.items()):
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            step = Step(normalized, grid=tuple(grid), side=dict(side or {}))
            masks = draw_masks(masking, step)
        hidden = ids_to_mask(masks.ids_mask, grid)[0].numpy()  # (T', H', W')
        seen = ids_to_mask(masks.ids_keep, grid)[0].numpy()
        top = MARGIN + row * (cell + GAP)
        share = f'{hidden.mean():.1%} masked'
        if not (hidden | seen).all():
            share += f', {1 - (hidden | seen).mean():.1%} neither'
        canvas.text(MARGIN, top + cell / 2 - 10, name, fontsize=8, weight='bold')
        canvas.text(MARGIN, top + cell / 2 + 12, share, fontsize=7, color='0.35')
        for slot in range(grid[0]):
            pixels = [
                part.repeat(size[1] // grid[1], 0).repeat(size[2] // grid[2], 1)[..., None]
                for part in (hidden[slot], seen[slot])
            ]
            image = np.where(pixels[0], np.float32(HIDDEN), frames[slot])
            image = np.where(pixels[0] | pixels[1], image, 0.5 * image)
            axes = canvas.axes(MARGIN + LABEL + slot * (cell + GAP), top, cell, cell)
            axes.imshow(image, interpolation='nearest')
            axes.set_axis_off()
    return canvas.figure
