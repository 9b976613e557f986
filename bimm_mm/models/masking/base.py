"""What maskings have in common: index pairs for a whole batch, drawn on the device."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..step import Step


@dataclass
class Masks:
    """Which tokens of each sample are visible and which are masked.

    Unpacks as the pair (``ids_keep``, ``ids_mask``).

    Attributes:
        ids_keep: (B, K) visible tokens, ascending.
        ids_mask: (B, M) masked tokens, ascending.
        weight: (B, M) float, only if samples have different numbers of masked tokens. Rows are then
            filled up by repeating tokens, and the weight is 1 for masked tokens, 0 for repetitions.
            Needs an encoder with ``masked='token'``.
        log_prob: (B, N) of a masking that learns: log-probability that each token is seen.
    """

    ids_keep: Tensor
    ids_mask: Tensor
    weight: Tensor | None = None
    log_prob: Tensor | None = None

    def __iter__(self) -> Iterator[Tensor]:
        yield self.ids_keep
        yield self.ids_mask

    def __getitem__(self, index: int) -> Tensor:
        return (self.ids_keep, self.ids_mask)[index]


class BaseMasking:
    """What a masking is: a way to draw :class:`Masks` for a batch.

    A blind masking defines :meth:`__call__`, which sees the size of the batch and the grid. A
    guided one sets ``guided = True`` and defines :meth:`draw`, which sees the step: the input, its
    side inputs (captions, codes, contours), and the branches that ran before. Both draw on the
    device, for the whole batch at once, from ``generator`` where one is given. They draw by
    :mod:`bimm_mm.utils.draws`, so that a sample's mask does not depend on the process it is in.
    """

    guided = False

    def draw(self, step: Step, generator: torch.Generator | None = None) -> Masks:
        """Draw the masks of a batch.

        Args:
            step: With ``x``, ``grid``, ``side`` and ``others``.
            generator: Source of randomness, on the device of ``step.x``. The global one of the
                device when left out.
        """
        return self(len(step.x), step.grid, step.x.device, generator)

    def __call__(
        self,
        batch_size: int,
        grid: tuple[int, int, int],
        device: torch.device | str = 'cpu',
        generator: torch.Generator | None = None,
    ) -> Masks:
        """Draw the masks of a batch without looking at it.

        Args:
            batch_size: B.
            grid: (T', H', W') in tokens; an image has T' = 1.
            device: Where the masks are made.
            generator: Source of randomness, on ``device``. The global one of the device when left
                out.

        Returns:
            ``ids_keep`` (B, K) and ``ids_mask`` (B, M), both ascending; together every token once.

        Raises:
            ValueError: The masking does not fit the grid.
        """
        raise NotImplementedError(f'{type(self).__name__} needs draw(step) or __call__')


def draw_masks(masking: BaseMasking | Callable, step: Step) -> Masks:
    """Draw masks with a :class:`BaseMasking`, or any callable (batch_size, grid, device)."""
    draw = getattr(masking, 'draw', None)
    pair = masking(len(step.x), step.grid, step.x.device) if draw is None else draw(step)
    return pair if isinstance(pair, Masks) else Masks(*pair)


def split_mask(mask: Tensor, masked: int) -> Masks:
    """Turn masks with the same number of masked tokens in every sample into index pairs.

    Args:
        mask: (B, N) bool, True where a token is masked.
        masked: M, how many are masked in each sample. It is given, not counted, as counting would
            wait for the device.
    """
    order = mask.to(torch.uint8).argsort(dim=1, stable=True)  # visible tokens first, ascending
    return Masks(*order.split([mask.shape[1] - masked, masked], dim=1))


def repeat_over_time(masks: Masks, frames: int, area: int) -> Masks:
    """Repeat masks of one frame, (B, K) and (B, M) of ``area`` tokens, in all ``frames``."""
    offsets = torch.arange(frames, device=masks.ids_keep.device)[:, None] * area
    return Masks(*((ids[:, None] + offsets).flatten(1) for ids in masks))


def count_masked(ratio: float, count: int) -> int:
    """Return ``ratio`` times ``count``, rounded; a ValueError if that is all or none."""
    masked = int(ratio * count + 0.5)
    if not 0 < masked < count:
        raise ValueError(
            f'ratio={ratio} masks {masked} of {count} positions: '
            'at least one must be masked and one stay visible'
        )
    return masked


def check_ratio(ratio: float) -> float:
    """Return ``ratio``; a ValueError if it is not between 0 and 1."""
    if not 0 < ratio < 1:
        raise ValueError(f'ratio={ratio} must lie between 0 and 1, both excluded')
    return ratio
