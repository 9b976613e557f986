"""Measure what an encoder has learned while it is pretrained."""

import math
import random
from collections.abc import Sequence

import numpy as np
import torch
from mmengine.dist import all_gather, get_world_size
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ...evaluation.functional.features import encode_dataset, labeled_loaders, middle_frame
from ...evaluation.functional.knn import knn_accuracy
from ...evaluation.functional.rank import effective_rank
from ...utils.wrappers import unwrap_model


@HOOKS.register_module()
class RepresentationHook(Hook):
    """Classify labeled samples by nearest neighbors, and measure the rank of the features.

    Losses of different targets cannot be compared, and a falling one need not mean a better
    encoder. Accuracies and ranks go into the log and the curves, as ``knn/<label>`` and ``rank``.
    The feature of a sample is its mean patch token of the last stage. All processes encode a share.
    Training is not touched: the same losses follow as without this hook. Source: our choice;
    evaluation as in DINO (Caron et al., 2021) and RankMe (Garrido et al., 2023).

    Args:
        interval: Epochs between two measurements, iterations if not ``by_epoch``; the end of the
            training has one, too.
        by_epoch: What ``interval`` counts.
        branch: 'dorsal' or 'ventral', of a model that has both.
        labels: Attributes of the samples that hold a class.
        k: Neighbors; all training samples, where there are fewer.
        train: Config of a loader of labeled samples, without augmentation and shuffling. The
            config's ``probe_train`` when left out; for videos, see ``docs/visualization.md``.
        test: Of the samples to be classified; ``probe_test`` when left out.

    Raises:
        ValueError: ``interval`` or ``k`` is below 1; only one of ``train`` and ``test`` is given.
        ConfigError: At the start, if the config does not have labeled data.
    """

    priority = 'LOW'

    def __init__(
        self,
        interval: int = 20,
        by_epoch: bool = True,
        branch: str = 'dorsal',
        labels: Sequence[str] = ('gt_label',),
        k: int = 20,
        train: dict | None = None,
        test: dict | None = None,
    ) -> None:
        if interval < 1 or k < 1:
            raise ValueError(f'interval={interval} and k={k} must be at least 1')
        if (train is None) != (test is None):
            raise ValueError('train and test must be given together, or neither')
        self.interval, self.by_epoch = interval, by_epoch
        self.branch, self.labels, self.k = branch, tuple(labels), k
        self.configs = None if train is None else (train, test)
        self._loaders: list[DataLoader] = []

    def before_train(self, runner: Runner) -> None:
        """Build the loaders, so that what is missing is told before the training."""
        if self.configs is None:
            self._loaders = labeled_loaders(runner.cfg)
        else:
            self._loaders = [Runner.build_dataloader(config) for config in self.configs]
        self.find_backbone(runner)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs=None
    ) -> None:
        """Measure every ``interval`` iterations, and at the end of a run by iterations."""
        if self.by_epoch:
            return
        done = runner.iter + 1
        if done % self.interval == 0 or done == runner.max_iters:
            self.measure(runner, done)

    def after_train_epoch(self, runner: Runner) -> None:
        """Measure every ``interval`` epochs, and at the end."""
        if self.by_epoch and (
            (runner.epoch + 1) % self.interval == 0 or runner.epoch + 1 == runner.max_epochs
        ):
            self.measure(runner, runner.iter)

    def measure(self, runner: Runner, step: int) -> dict[str, float]:
        """Encode both sets, log the accuracies and the rank, and return them."""
        model, backbone = self.find_backbone(runner)
        states = random.getstate(), np.random.get_state()
        devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
        training = model.training
        model.eval()
        with torch.random.fork_rng(devices):
            train, test = (self.encode(model, backbone, loader) for loader in self._loaders)
        model.train(training)
        random.setstate(states[0])
        np.random.set_state(states[1])
        found = {'rank': effective_rank(test[0])}
        words = [f'rank {found["rank"]:.1f} of {test[0].shape[1]}']
        for label in self.labels:
            pairs = (train[0], train[1][label]), (test[0], test[1][label])
            score = knn_accuracy(*pairs, k=min(self.k, len(train[0])))
            found[f'knn/{label}'] = score.value
            words.append(f'{label} {score.value:.1%} (chance {score.chance:.1%})')
        runner.visualizer.add_scalars(found, step=step)
        runner.logger.info(f'Nearest neighbors in frozen features: {", ".join(words)}')
        return found

    def find_backbone(self, runner: Runner) -> tuple[nn.Module, nn.Module]:
        """Return the pretrainer and the encoder to measure.

        Raises:
            ValueError: The model has no such branch.
        """
        model = unwrap_model(runner.model)
        owner = getattr(model, self.branch, model)
        if not hasattr(owner, 'backbone'):
            raise ValueError(f'branch={self.branch!r}: {type(model).__name__} has no such branch')
        return model, owner.backbone

    def encode(
        self, model: nn.Module, backbone: nn.Module, loader: DataLoader
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Encode this process's share of a set, and gather those of the others."""

        def mean_tokens(x: Tensor) -> list[Tensor]:
            tokens = backbone(middle_frame(x, backbone))[-1]
            return [tokens[:, -math.prod(backbone.grid_size) :].mean(1)]

        (features,), labels = encode_dataset(
            mean_tokens, model.data_preprocessor, loader, self.labels
        )
        if get_world_size() == 1:
            return features, labels
        device = next(backbone.parameters()).device
        count = len(loader.dataset)

        def gather(part: Tensor) -> Tensor:
            # DefaultSampler gives sample i to process i % world_size, and fills the last round up
            parts = all_gather(part.to(device))
            return torch.stack(parts, dim=1).flatten(0, 1)[:count].cpu()

        return gather(features), {label: gather(part) for label, part in labels.items()}
