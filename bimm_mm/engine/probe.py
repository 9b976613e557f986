"""A linear probe on frozen features: the cheapest way to see what an encoder has learned."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader

from .config_check import ConfigError


@dataclass(frozen=True)
class Accuracy:
    """Share of correct predictions, with its standard error.

    Attributes:
        value (float): in [0, 1].
        count (int): number of test samples.
        chance (float): what guessing reaches, in [0, 1].
    """

    value: float
    count: int
    chance: float

    @property
    def error(self) -> float:
        """Standard error of the share, from the binomial distribution."""
        return (self.value * (1 - self.value) / self.count) ** 0.5


@torch.no_grad()
def mean_token_features(backbone: nn.Module, preprocessor: nn.Module, data: DataLoader) -> Tensor:
    """Encode a data set: the mean patch token of each stage, side by side.

    Args:
        backbone (nn.Module): :class:`BimmViT` with ``out_type='raw'``, as inside a pretrainer.
        preprocessor (nn.Module): turns a batch of the loader into normalised ``inputs``.
        data (DataLoader): in a fixed order.

    Returns:
        Tensor: (N, stages * C), float32 on the CPU.
    """
    training = backbone.training
    count = math.prod(backbone.grid_size)
    backbone.eval()
    features = []
    for batch in data:
        stages = backbone(preprocessor(batch)['inputs'])
        features.append(torch.cat([x[:, -count:].mean(1) for x in stages], dim=1))
    backbone.train(training)
    return torch.cat(features).float().cpu()


@torch.no_grad()
def block_features(
    backbone: nn.Module,
    preprocessor: nn.Module,
    data: DataLoader,
    labels: Sequence[str],
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Encode a data set: the mean patch token before the first and after every block.

    An image encoder that is given clips sees the middle frame of each. What the blocks return is
    taken as it is, without the norms, which only the ends of stages have.

    Args:
        backbone (nn.Module): :class:`BimmViT`, with any ``out_type``.
        preprocessor (nn.Module): turns a batch of the loader into normalised ``inputs``.
        data (DataLoader): in a fixed order; its samples carry the labels.
        labels (Sequence[str]): attributes of a data sample that hold a class, counted from 0.

    Returns:
        tuple: depth + 1 features, (N, C) float32 each, the first of the embedded patches; and
        for each label the classes, (N,) int64. All on the CPU.

    Raises:
        ValueError: a sample has no such label.
    """
    training = backbone.training
    backbone.eval()
    features: list[list[Tensor]] = [[] for _ in range(backbone.depth + 1)]
    classes: dict[str, list[int]] = {label: [] for label in labels}
    for batch in data:
        for sample in batch['data_samples']:
            for label, values in classes.items():
                if label not in sample:
                    raise ValueError(f"label='{label}' is not in a sample, it has {sample.keys()}")
                values.append(int(sample.get(label)))
        x = preprocessor(batch)['inputs'][:, :3]
        views = len(x) // len(batch['data_samples'])  # clips and crops of one video
        x = x[:, :, x.shape[2] // 2] if x.dim() == 5 and not backbone.is_video else x
        x, grid = backbone.embed(x)
        for index in range(backbone.depth + 1):
            x = backbone.blocks[index - 1](x, grid) if index else x
            token = x[:, -math.prod(grid) :].mean(1).float().cpu()
            features[index].append(token.unflatten(0, (-1, views)).mean(1))
    backbone.train(training)
    return (
        [torch.cat(parts) for parts in features],
        {label: torch.tensor(values) for label, values in classes.items()},
    )


def labelled_loaders(cfg: Config) -> list[DataLoader]:
    """The loaders of training and test samples of a config, neither with augmentation.

    A pretraining config has ``probe_train`` and ``probe_test``. Of a recognition config, the
    videos of the training list are read as those of the validation list are.

    Raises:
        ConfigError: the config has no labelled data.
    """
    if 'probe_train' in cfg and 'probe_test' in cfg:
        return [Runner.build_dataloader(cfg[key]) for key in ('probe_train', 'probe_test')]
    if not cfg.get('val_dataloader'):
        raise ConfigError(
            f'{cfg.filename} has no labelled data: neither val_dataloader, nor probe_train and '
            'probe_test'
        )
    train = copy.deepcopy(cfg.val_dataloader)
    for key in ('data_root', 'ann_file', 'data_prefix'):
        train.dataset[key] = cfg.train_dataloader.dataset[key]
    return [Runner.build_dataloader(loader) for loader in (train, cfg.val_dataloader)]


def fit_linear_probe(
    train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], weight_decay: float = 1e-3
) -> Accuracy:
    """Fit a logistic regression on standardised features, and test it.

    Args:
        train (tuple[Tensor, Tensor]): features (N, D) and labels (N,), int64 from 0.
        test (tuple[Tensor, Tensor]): likewise.
        weight_decay (float): weight of the squared norm of the coefficients.
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
