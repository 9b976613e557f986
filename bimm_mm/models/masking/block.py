"""Blocks: rectangles of BEiT, their tubes and spans (BEVT), and MaskFeat's cubes."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor

from ...utils import draws
from .base import BaseMasking, Masks, check_ratio, count_masked, repeat_over_time, split_mask


@MODELS.register_module()
class BlockMasking(BaseMasking):
    """Mask rectangles of patches until a number is reached (BEiT, algorithm 1; CAE).

    The area of a rectangle is drawn between ``min_area`` and what is missing, its aspect ratio
    log-uniformly; it is taken if it adds new patches and not too many. After ``tries`` draws (our
    choice: 60, of which a batch rarely needs all) the patches that are still missing are taken next
    to the rectangles, so that each sample has exactly the same number; BEiT stops below it, and
    CAE's own loop has no bound.

    In clips the same patches are masked in every frame, or with ``span`` in a run of frames, which
    wraps around from the end to the beginning (BEVT). Its length is drawn once for a batch, so that
    all samples have the same number, its start for each sample.

    Args:
        ratio: Share of the patches of a frame that is masked, in (0, 1) (CAE: 98 of 196).
        min_area: Patches of the smallest rectangle (BEiT, CAE: 16 of 196), 8 % of a frame by
            default.
        min_aspect: Smallest ratio of height to width, in (0, 1]; the largest is its inverse
            (BEiT: 0.3).
        span: Shortest and longest run of frames, as shares of the clip (BEVT: (0.5, 1)); whole
            clips when left out.
        tries: Rectangles that are drawn at most.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        ratio: float = 0.5,
        min_area: int | None = None,
        min_aspect: float = 0.3,
        span: Sequence[float] | None = None,
        tries: int = 60,
    ) -> None:
        self.ratio = check_ratio(ratio)
        if not 0 < min_aspect <= 1:
            raise ValueError(f'min_aspect={min_aspect} must be more than 0 and at most 1')
        if span is not None and not 0 < span[0] <= span[1] <= 1:
            raise ValueError(f'span={tuple(span)} must be two shares, 0 < shortest <= longest <= 1')
        if tries < 1:
            raise ValueError(f'tries={tries} must be at least 1')
        self.min_area, self.min_aspect, self.tries = min_area, min_aspect, tries
        self.span = None if span is None else tuple(span)

    def __call__(
        self,
        batch_size: int,
        grid: tuple[int, int, int],
        device: torch.device | str = 'cpu',
        generator: torch.Generator | None = None,
    ) -> Masks:
        """Draw masks; see :class:`BaseMasking`."""
        frames, rows, columns = grid
        area = rows * columns
        masked = count_masked(self.ratio, area)
        least = max(round(0.08 * area), 1) if self.min_area is None else self.min_area
        mask = fill_with_boxes(
            batch_size,
            (1, rows, columns),
            masked,
            lambda missing, share: least + share * (missing - least),
            self.min_aspect,
            self.tries,
            device,
            generator,
        )
        if self.span is None:
            return repeat_over_time(split_mask(mask.flatten(1), masked), frames, area)
        shortest, longest = (max(round(share * frames), 1) for share in self.span)
        length = draws.randint_once(shortest, longest, device, generator)
        start = draws.randint(frames, (batch_size, 1), device, generator)
        inside = (torch.arange(frames, device=device) - start) % frames < length  # (B, T')
        mask = (inside[:, :, None] & mask.flatten(1)[:, None]).flatten(1)
        return split_mask(mask, length * masked)


@MODELS.register_module()
class CubeMasking(BaseMasking):
    """Mask cubes, contiguous in space and time, until a number is reached (MaskFeat on video).

    The area of a cube in a frame is drawn between a fifth of the frame and all of it, its aspect
    ratio log-uniformly, its length between one frame and all; it is taken if it adds new tokens
    and not too many. What is missing after ``tries`` draws is taken next to the cubes (our choice;
    SlowFast's code stays below the number).

    Args:
        ratio: Share of the tokens that is masked, in (0, 1) (MaskFeat: 0.4).
        min_aspect: Smallest ratio of height to width, in (0, 1]; the largest is its inverse.
        tries: Cubes that are drawn at most (SlowFast: 100).
    """

    def __init__(self, ratio: float = 0.4, min_aspect: float = 0.3, tries: int = 100) -> None:
        self.ratio = check_ratio(ratio)
        if not 0 < min_aspect <= 1 or tries < 1:
            raise ValueError(
                f'min_aspect={min_aspect} must be more than 0 and at most 1, and tries={tries} at '
                'least 1'
            )
        self.min_aspect, self.tries = min_aspect, tries

    def __call__(
        self,
        batch_size: int,
        grid: tuple[int, int, int],
        device: torch.device | str = 'cpu',
        generator: torch.Generator | None = None,
    ) -> Masks:
        """Draw masks; see :class:`BaseMasking`."""
        masked = count_masked(self.ratio, math.prod(grid))
        area = math.prod(grid[1:])
        mask = fill_with_boxes(
            batch_size,
            grid,
            masked,
            lambda missing, share: area // 5 + share * (area - area // 5),
            self.min_aspect,
            self.tries,
            device,
            generator,
        )
        return split_mask(mask.flatten(1), masked)


def fill_with_boxes(
    batch_size: int,
    grid: tuple[int, int, int],
    count: int,
    area_of,
    min_aspect: float,
    tries: int,
    device: torch.device | str,
    generator: torch.Generator | None,
) -> Tensor:
    """Mask exactly ``count`` tokens of each sample by boxes, all samples in step.

    Args:
        batch_size: B.
        grid: (T', H', W').
        count: Tokens to mask in each sample.
        area_of: From the numbers of missing tokens (B,) and numbers in [0, 1) (B,) to areas (B,).
        min_aspect: Smallest ratio of height to width.
        tries: Boxes that are drawn for each sample.
        device: Where the masks are made.
        generator: Source of randomness, on ``device``.

    Returns:
        (B, T', H', W') bool, True where a token is masked.
    """
    chance = draws.rand((tries, 6, batch_size), device, generator, dim=2)
    mask = torch.zeros(batch_size, *grid, dtype=torch.bool, device=device)
    limit = -math.log(min_aspect)
    for area, aspect, length, *corner in chance:
        missing = count - mask.flatten(1).sum(dim=1)  # (B,)
        area = area_of(missing, area)
        aspect = torch.exp((2 * aspect - 1) * limit)
        height = (area * aspect).sqrt().round()
        width = (area / aspect).sqrt().round()
        length = (length * grid[0]).floor() + 1
        # BEiT's rectangles are smaller than the frame; MaskFeat's cubes may fill it
        smaller = 1 if grid[0] == 1 else 0
        fits = (height <= grid[1] - smaller) & (width <= grid[2] - smaller)
        box = torch.ones_like(mask)
        for axis, size in enumerate((length, height, width)):
            start = (corner[axis] * (grid[axis] - size + 1).clamp_min(1)).floor()
            place = torch.arange(grid[axis], device=device)
            inside = (place >= start[:, None]) & (place < (start + size)[:, None])  # (B, n)
            box &= inside.view(-1, *(grid[i] if i == axis else 1 for i in range(3)))
        added = (box & ~mask).flatten(1).sum(dim=1)
        taken = fits & (added > 0) & (added <= missing)
        mask |= box & taken[:, None, None, None]
    return top_up(mask, count, generator)


def top_up(mask: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """Mask further tokens, those next to masked ones first, until there are ``count``.

    Args:
        mask: (B, T', H', W') bool, with at most ``count`` masked tokens.
        count: Wanted in each sample.
        generator: Source of randomness, on the device of ``mask``.
    """
    kernel = [3 if length >= 3 else 1 for length in mask.shape[1:]]
    padding = [side // 2 for side in kernel]
    near = F.avg_pool3d(mask[:, None].float(), kernel, 1, padding)[:, 0].flatten(1)
    noise = draws.rand(near.shape, mask.device, generator)
    score = near + 1e-3 * noise + 2 * mask.flatten(1)  # masked ones stay masked
    rank = score.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return (rank < count).view(mask.shape)
