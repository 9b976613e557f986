"""Nearest neighbors in frozen features: nothing is fitted, so nothing can be tuned."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .accuracy import Accuracy


def knn_accuracy(
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    k: int = 20,
    temperature: float = 0.07,
    chunk: int = 1024,
) -> Accuracy:
    """Classify by a weighted vote of the k nearest training samples.

    Neighbors are nearest by cosine similarity s, and vote with weight exp(s / temperature), as Wu
    et al. (2018) and DINO (Caron et al., 2021) evaluate encoders.

    Args:
        train: Features (N, D) and labels (N,), int64 from 0.
        test: Likewise.
        k: Neighbors, 1 to N.
        temperature: Above 0; the smaller, the more the nearest ones count.
        chunk: Test samples whose similarities are held at a time.

    Raises:
        ValueError: For a ``k`` or ``temperature`` out of range.
    """
    (x, y), (x_test, y_test) = train, test
    if not 1 <= k <= len(x):
        raise ValueError(f'k={k} must be 1 to {len(x)}, the number of training samples')
    if temperature <= 0:
        raise ValueError(f'temperature={temperature} must be above 0')
    classes = int(max(y.max(), y_test.max())) + 1
    x, x_test = F.normalize(x, dim=1), F.normalize(x_test, dim=1)
    correct = 0
    for part, labels in zip(x_test.split(chunk), y_test.split(chunk), strict=True):
        similarity, index = (part @ x.T).topk(k, dim=1)
        # less the largest: the vote is the same, and nothing overflows
        weight = ((similarity - similarity[:, :1]) / temperature).exp()
        votes = torch.zeros(len(part), classes).scatter_add_(1, y[index], weight)
        correct += (votes.argmax(1) == labels).sum().item()
    return Accuracy(correct / len(y_test), len(y_test), 1 / len(y.unique()))
