"""Random tokens, each on its own."""

import math

import torch
from mmengine.registry import MODELS
from torch import Tensor

from ...utils import draws
from ..step import Step
from .base import BaseMasking, Masks, check_ratio, count_masked


@MODELS.register_module()
class RandomMasking(BaseMasking):
    """Mask random tokens, independently of each other (MAE; paper: the ventral branch).

    Args:
        ratio: Share of the tokens that is masked, in (0, 1). The number of masked tokens is
            ``ratio`` times the number of tokens, rounded to the nearest integer, and the same in
            every sample. At least one token stays visible and one is masked.
    """

    def __init__(self, ratio: float = 0.75) -> None:
        self.ratio = check_ratio(ratio)

    def __call__(
        self,
        batch_size: int,
        grid: tuple[int, int, int],
        device: torch.device | str = 'cpu',
        generator: torch.Generator | None = None,
    ) -> Masks:
        """Draw masks; see :class:`BaseMasking`."""
        return self.split(batch_size, math.prod(grid), device, generator)

    def split(
        self,
        batch_size: int,
        count: int,
        device: torch.device | str,
        generator: torch.Generator | None,
    ) -> Masks:
        """Split ``range(count)`` at random, for each sample: (B, kept) and (B, masked)."""
        keep = count - count_masked(self.ratio, count)
        order = draws.rand((batch_size, count), device, generator).argsort(dim=1, stable=True)
        return Masks(order[:, :keep].sort(dim=1).values, order[:, keep:].sort(dim=1).values)

    def __repr__(self) -> str:
        return f'{type(self).__name__}(ratio={self.ratio})'


@MODELS.register_module()
class RandomSubset(BaseMasking):
    """Draw a random share of the masked tokens, as the decoder's masking of a branch.

    Args:
        ratio: Share of the masked tokens that is decoded and predicted, in (0, 1].

    Raises:
        ValueError: ``ratio`` is out of range.
    """

    guided = True
    within_masked = True  # what it draws is masked, all of it

    def __init__(self, ratio: float = 0.5) -> None:
        if not 0 < ratio <= 1:
            raise ValueError(f'decode_ratio={ratio} must be more than 0 and at most 1')
        self.ratio = ratio

    def draw(self, step: Step, generator: torch.Generator | None = None) -> Masks:
        """Pick among ``step.ids_mask`` (B, M): at least 1 and at most M, ascending."""
        masked = step.ids_mask
        count = max(round(self.ratio * masked.shape[1]), 1)
        noise = draws.rand(masked.shape, masked.device, generator)
        order = noise.argsort(dim=1, stable=True)

        def pick(ids: Tensor) -> Tensor:
            return masked.gather(1, ids).sort(dim=1).values

        return Masks(pick(order[:, count:]), pick(order[:, :count]))

    def __repr__(self) -> str:
        return f'{type(self).__name__}(ratio={self.ratio})'
