"""Maskings that follow a map of scores: captions, motion, attention."""

import math

import torch
from torch import Tensor

from ..step import Step
from .base import BaseMasking, Masks, check_ratio, split_mask

ORDERS = ('top', 'bottom')


class GuidedMasking(BaseMasking):
    """Mask in each frame the tokens with the highest scores, or the lowest.

    A subclass defines :meth:`scores`.

    Args:
        ratio: Share of the tokens of a frame that is masked, in (0, 1), rounded down (TGM: 0.6 of
            196 are 117).
        order: 'top' masks the highest scores, 'bottom' the lowest.
        softness: Scale of Gumbel noise that is added to the scores: 0 follows them, a large one
            masks at random.

    Raises:
        ValueError: An argument is out of range.
    """

    guided = True

    def __init__(self, ratio: float, order: str = 'top', softness: float = 0.0) -> None:
        self.ratio = check_ratio(ratio)
        if order not in ORDERS:
            raise ValueError(f"order='{order}' must be {' or '.join(map(repr, ORDERS))}")
        if softness < 0:
            raise ValueError(f'softness={softness} must be at least 0')
        self.order, self.softness = order, softness

    def scores(self, step: Step) -> Tensor:
        """Score each token: (B, T', H', W') float."""
        raise NotImplementedError(f'{type(self).__name__} needs scores(step)')

    def draw(self, step: Step, generator: torch.Generator | None = None) -> Masks:
        """Draw masks; see :class:`BaseMasking`."""
        scores = self.scores(step).float().flatten(2)  # (B, T', H' * W')
        if self.softness:
            noise = torch.rand(scores.shape, device=scores.device, generator=generator)
            scores = scores - self.softness * torch.log(-torch.log(noise.clamp_min(1e-20)))
        masked = math.floor(self.ratio * scores.shape[2])
        return mask_by_scores(scores, masked, self.order == 'top')


def mask_by_scores(scores: Tensor, masked: int, top: bool = True) -> Masks:
    """Mask in each frame the ``masked`` tokens with the highest or lowest scores.

    Args:
        scores: (B, T', A). Of equal scores, the first tokens come first.
        masked: How many tokens of a frame are masked.
        top: Whether the highest are masked.

    Raises:
        ValueError: ``masked`` is none or all.
    """
    if not 0 < masked < scores.shape[2]:
        raise ValueError(f'masked={masked} must be 1 to {scores.shape[2] - 1} tokens of a frame')
    order = scores.argsort(dim=2, descending=top, stable=True)
    mask = torch.zeros(scores.shape, dtype=torch.bool, device=scores.device)
    mask.scatter_(2, order[..., :masked], True)
    return split_mask(mask.flatten(1), scores.shape[1] * masked)
