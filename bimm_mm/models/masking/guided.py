"""Maskings that follow a map of scores: captions, motion, attention."""

import math

import torch
from torch import Tensor

from ...utils import draws
from ..step import Step
from .base import BaseMasking, Masks, check_ratio, split_mask

ORDERS = ('top', 'bottom')
SPANS = ('slot', 'clip')


class GuidedMasking(BaseMasking):
    """Mask the tokens with the highest scores, or the lowest.

    A subclass defines :meth:`scores`, or :meth:`draw_scores` where chance has a part in them. The
    number of masked tokens is the same in every sample.

    Args:
        ratio: Share of the tokens that is masked, in (0, 1), rounded down (TGM: 0.6 of 196 are
            117).
        order: 'top' masks the highest scores, 'bottom' the lowest.
        softness: Scale of Gumbel noise that is added to the scores: 0 follows them, a large one
            masks at random.
        over: 'slot' masks the same number in each frame of tokens, 'clip' compares the scores of
            the whole clip.

    Raises:
        ValueError: An argument is out of range.
    """

    guided = True

    def __init__(
        self, ratio: float, order: str = 'top', softness: float = 0.0, over: str = 'slot'
    ) -> None:
        self.ratio = check_ratio(ratio)
        for name, value, known in (('order', order, ORDERS), ('over', over, SPANS)):
            if value not in known:
                raise ValueError(f"{name}='{value}' must be {' or '.join(map(repr, known))}")
        if softness < 0:
            raise ValueError(f'softness={softness} must be at least 0')
        self.order, self.softness, self.over = order, softness, over

    def draw_scores(self, step: Step, generator: torch.Generator | None = None) -> Tensor:
        """Score each token, by chance where the masking has it: (B, T', H', W') float."""
        return self.scores(step)

    def scores(self, step: Step) -> Tensor:
        """Score each token: (B, T', H', W') float."""
        raise NotImplementedError(f'{type(self).__name__} needs scores(step)')

    def num_masked(self, count: int) -> int:
        """How many of ``count`` tokens are masked."""
        return math.floor(self.ratio * count + 1e-9)

    def draw(self, step: Step, generator: torch.Generator | None = None) -> Masks:
        """Draw masks; see :class:`BaseMasking`."""
        with torch.no_grad():
            scores = self.draw_scores(step, generator).float().flatten(2)  # (B, T', H' * W')
            if self.softness:
                scores = scores + self.softness * gumbel_like(scores, generator)
            if self.over == 'clip':
                scores = scores.flatten(1)[:, None]
            return mask_by_scores(scores, self.num_masked(scores.shape[2]), self.order == 'top')

    def __repr__(self) -> str:
        return f'{type(self).__name__}(ratio={self.ratio}, order={self.order!r})'


def gumbel_like(scores: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw Gumbel noise of the shape of ``scores``."""
    noise = draws.rand(scores.shape, scores.device, generator)
    return -torch.log(-torch.log(noise.clamp(1e-20, 1 - 1e-7)))


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
