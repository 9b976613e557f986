"""Nearest neighbours in frozen features: nothing is fitted, so nothing can be tuned."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from .probe import Accuracy


def knn_accuracy(
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    k: int = 20,
    temperature: float = 0.07,
    chunk: int = 1024,
) -> Accuracy:
    """Classify by a weighted vote of the k nearest training samples.

    Neighbours are nearest by cosine similarity s, and vote with weight exp(s / temperature), as Wu
    et al. (2018) and DINO (Caron et al., 2021) evaluate encoders.

    Args:
        train (tuple[Tensor, Tensor]): features (N, D) and labels (N,), int64 from 0.
        test (tuple[Tensor, Tensor]): likewise.
        k (int): neighbours, 1 to N.
        temperature (float): above 0; the smaller, the more the nearest ones count.
        chunk (int): test samples whose similarities are held at a time.

    Raises:
        ValueError: for a ``k`` or ``temperature`` out of range.
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


@torch.no_grad()
def encode(
    encoder: nn.Module, preprocessor: nn.Module, data: DataLoader, label: str
) -> tuple[Tensor, Tensor]:
    """Features and labels of a data set.

    Args:
        encoder (nn.Module): gives a tuple of features, the last (B, C).
        preprocessor (nn.Module): turns a batch of the loader into normalised ``inputs``, (B, ...)
            or mmaction2's (B, views, ...); the features of the views are averaged.
        data (DataLoader): gives ``inputs`` and ``data_samples``.
        label (str): attribute of a data sample that holds its class, 'gt_label' as a rule.

    Returns:
        tuple[Tensor, Tensor]: (N, C) float32 and (N,) int64, on the CPU.

    Raises:
        ValueError: a sample has no such attribute.
    """
    encoder.eval()
    features, labels = [], []
    for batch in data:
        samples = batch['data_samples']
        missing = next((s for s in samples if label not in s), None)
        if missing is not None:
            raise ValueError(f"label='{label}' is not in a sample, it has {missing.keys()}")
        inputs = preprocessor(batch)['inputs']
        views = inputs.shape[1] if inputs.dim() == 6 else len(inputs) // len(samples)
        inputs = inputs.flatten(0, 1) if inputs.dim() == 6 else inputs
        feature = encoder(inputs)[-1].float().cpu()
        features.append(feature.unflatten(0, (-1, views)).mean(1))
        labels += [int(s.get(label)) for s in samples]
    return torch.cat(features), torch.tensor(labels)
