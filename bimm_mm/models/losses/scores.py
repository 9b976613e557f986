"""How good predictions are, in numbers that can be compared over targets."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ...utils import draws

CONSTANT = 1e-6  # of a target's mean square: with less variance it counts as constant


def weighted_mean(
    values: Tensor, weight: Tensor | None = None, over_processes: bool = False
) -> Tensor:
    """Average values (B, P, ...) over everything, tokens weighted by ``weight`` (B, P).

    Args:
        values: (B, P, ...).
        weight: (B, P).
        over_processes: Whether the sum of the weights is its mean over processes, so that the mean
            over processes is that of the whole global batch. For losses; all processes must call.
    """
    if weight is None:
        return values.mean()
    weight = weight.to(values.dtype)
    values = values.flatten(2).mean(dim=2) if values.dim() > 2 else values
    total = weight.sum()
    return (values * weight).sum() / (draws.over_processes(total) if over_processes else total)


@torch.no_grad()
def explained_variance(prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """1 - mean squared error / variance of the target on the same tokens.

    The variance is about the mean of each of the D values over tokens and samples. 0 is what a
    constant prediction reaches, 1 is perfect (our choice).

    Args:
        prediction, target: (B, P, D).
        weight: (B, P), of the tokens.

    Returns:
        A scalar; NaN for a constant target (a static clip has no motion), of which nothing can be
        explained.
    """
    target = target.float()
    error = weighted_mean((prediction.float() - target).square(), weight)
    variance, mean_square = _moments(target, weight)
    return torch.where(variance > CONSTANT * mean_square, 1 - error / variance, math.nan)


def _moments(target: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """Variance about the mean of each value, and mean square, averaged over the values."""
    if weight is None:
        mean = target.mean(dim=(0, 1))
        # by a norm, as torch.var over the first axes takes several times as long on a CPU
        variance = torch.linalg.vector_norm(target - mean).square() / target.numel()
    else:
        share = (weight / weight.sum())[..., None]
        mean = (target * share).sum(dim=(0, 1))
        variance = ((target - mean).square() * share).sum(dim=(0, 1)).mean()
    return variance, variance + mean.square().mean()


@torch.no_grad()
def accuracy(logits: Tensor, classes: Tensor, weight: Tensor | None = None) -> Tensor:
    """Share of the tokens whose most likely class is the right one.

    Args:
        logits: (B, P, ..., V).
        classes: (B, P, ...) long.
        weight: (B, P), of the tokens.
    """
    return weighted_mean((logits.argmax(dim=-1) == classes).float(), weight)


def cross_entropy(logits: Tensor, classes: Tensor, weight: Tensor | None = None) -> Tensor:
    """Cross-entropy averaged over tokens.

    Args:
        logits: (B, P, ..., V).
        classes: (B, P, ...) long.
        weight: (B, P), of the tokens.
    """
    logits = logits.float()
    if weight is None:
        return F.cross_entropy(logits.flatten(0, -2), classes.flatten())
    values = F.cross_entropy(logits.flatten(0, -2), classes.flatten(), reduction='none')
    return weighted_mean(values.view(classes.shape), weight, over_processes=True)
