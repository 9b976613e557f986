"""A linear probe on frozen features: the cheapest way to see what an encoder has learned."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .accuracy import Accuracy


def fit_linear_probe(
    train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], weight_decay: float = 1e-3
) -> Accuracy:
    """Fit a logistic regression on standardized features, and test it.

    For features that fit into memory. The linear probes of recipes, ``configs/bimm/linear_*``,
    train a layer by SGD with augmented clips instead.

    Args:
        train: Features (N, D) and labels (N,), int64 from 0.
        test: Likewise.
        weight_decay: Weight of the squared norm of the coefficients.
    """
    (x, y), (x_test, y_test) = train, test
    mean, deviation = x.mean(0), x.std(0).clamp_min(1e-6)
    x, x_test = (x - mean) / deviation, (x_test - mean) / deviation
    classes = int(y.max()) + 1
    probe = nn.Linear(x.shape[1], classes)
    nn.init.zeros_(probe.weight)
    nn.init.zeros_(probe.bias)
    optimizer = torch.optim.LBFGS(
        probe.parameters(), max_iter=100, line_search_fn='strong_wolfe', tolerance_change=1e-7
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(probe(x), y) + weight_decay * probe.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    correct = (probe(x_test).argmax(1) == y_test).float().mean().item()
    return Accuracy(correct, len(y_test), 1 / classes)
