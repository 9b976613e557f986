"""Evaluate the encoder of a run: linear probes, and finetuning on few labels."""

import copy
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import (
    DATASETS,
    MODELS,
    OPTIM_WRAPPER_CONSTRUCTORS,
    init_default_scope,
)
from mmengine.runner import Runner, set_random_seed
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..config.check import ConfigError
from ..config.loading import merge_config
from ..engine.hooks.threads_hook import fastest_threads
from ..evaluation.functional.attentive_probe import fit_attentive_probe
from ..evaluation.functional.features import block_features, labeled_loaders
from ..evaluation.functional.knn import knn_accuracy
from ..evaluation.functional.linear_probe import fit_linear_probe
from ..models.backbones.arch import read_arch
from ..models.checkpoints import find_encoders, load_encoder, read_checkpoint
from ..models.selfsup import load_ventral_encoder
from .plan import Run, Study, digest
from .training import TIMED, WARM_UP, clock


def check_evaluation(cfg: Config, study: Study) -> None:
    """Check what can be known of an evaluation before anything is trained or timed.

    Raises:
        ConfigError: The config has no dorsal branch or no labeled data, a block to probe is beyond
            the last, or the samples of the small probe do not have all classes.
    """
    settings = study.evaluation
    name = cfg.filename or 'the config'
    missing = [key for key in ('probe_train', 'probe_test') if key not in cfg]
    if 'dorsal' not in (cfg.get('model') or {}):
        missing.append('model.dorsal')
    if missing:
        raise ConfigError(f'evaluation.config={name} has no {", ".join(missing)}')
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    backbones = [cfg.model.dorsal.backbone]
    for run in study.runs.values():
        if run.stages:
            model = run.stages[-1].cfg.model
            backbones.append(model.get('dorsal', model.get('ventral', model)).get('backbone', {}))
    for backbone in backbones:
        depth = read_arch(backbone['arch'])['depth'] if 'arch' in backbone else None
        if depth is not None and max(settings['probe_blocks']) > depth:
            raise ConfigError(
                f'evaluation.probe_blocks={settings["probe_blocks"]} must be 1 to {depth}, the '
                'blocks of the encoder'
            )
    if cfg.probe_train.dataset.get('num_classes') and len(settings['labels']) == 1:
        dataset = DATASETS.build(cfg.probe_train.dataset)  # which lists the videos
        labels = [dataset.get_data_info(index)['label'] for index in range(len(dataset))]
        choose_few({settings['labels'][0]: torch.tensor(labels)}, settings['probe_few'])


def choose_few(labels: Mapping[str, Tensor], few: int) -> Tensor:
    """Return the indices of a small number of samples that have all classes.

    The first ones; where they lack a class, as in a list that is sorted by class, samples of all
    classes in turn.

    Args:
        labels: (N,) classes by the name of the label.
        few: How many.

    Raises:
        ConfigError: There are not so many, or they cannot have all classes.
    """
    count = len(next(iter(labels.values())))
    for label, values in labels.items():
        classes = len(values.unique())
        chosen = torch.arange(min(few, count))
        if few <= count and len(values[chosen].unique()) == classes:
            continue
        if few <= count and len(labels) == 1 and few >= classes:
            rank = torch.zeros(count, dtype=torch.long)
            for value in values.unique():
                rank[values == value] = torch.arange(int((values == value).sum()))
            return rank.argsort(stable=True)[:few].sort().values
        raise ConfigError(
            f'evaluation.probe_few={few}: so many samples, of {count}, do not have all {classes} '
            f'classes of {label!r}; take {classes} to {count}, or shuffle the list'
        )
    return torch.arange(few)


def build_optimizer(
    model: nn.Module, lr: float, layer_decay: float | None = None
) -> torch.optim.Optimizer:
    """AdamW for finetuning: one group, or the groups of layer-wise decay, as recipes have them."""
    settings = dict(lr=lr, betas=(0.9, 0.999), weight_decay=0.05)
    if layer_decay is None:
        return torch.optim.AdamW(model.parameters(), **settings)
    constructor = OPTIM_WRAPPER_CONSTRUCTORS.build(
        dict(
            type='LayerDecayOptimWrapperConstructor',
            optim_wrapper_cfg=dict(optimizer=dict(type='AdamW', **settings)),
            paramwise_cfg=dict(layer_decay_rate=layer_decay),
        )
    )
    return constructor(model).optimizer


class Evaluation:
    """Data and settings with which all runs of a study are evaluated.

    ``study.evaluation`` holds ``config``, a pretraining config with a dorsal branch and labeled
    data (``probe_train``, ``probe_test``); ``labels``; ``probe_blocks``, after which the mean
    tokens are read, counted from 1; ``probe_few``, a number of labeled samples to which probes
    are fitted once more, as with all of them there may be nothing left to tell apart; and
    ``finetune``, a dict with ``dataset`` (overrides of the one of ``probe_train``),
    ``batch_size``, ``steps``, ``warmup``, ``lr`` and, where layers learn at different rates,
    ``layer_decay``; with ``without_time`` the encoder gets the same positions in all frames, their
    mean, before it is finetuned. Where they are there, ``knn`` is a number of
    nearest neighbors, and ``attentive`` a dict with ``steps``, ``batch_size`` and ``lr`` of an
    attentive probe.

    Every encoder is evaluated as a video encoder, with the same code. One that was trained on
    frames alone gets its patch embedding inflated, as the dorsal branch starts.

    Args:
        study: Of the runs.
    """

    def __init__(self, study: Study) -> None:
        self.settings = study.evaluation
        self.cfg = merge_config(self.settings['config'], self.settings.get('options') or {})
        check_evaluation(self.cfg, study)
        self.labels = tuple(self.settings['labels'])
        self.device = get_device()
        self.preprocessor = MODELS.build(dict(type='ClipDataPreprocessor')).to(self.device)
        self._loaders: list[DataLoader] | None = None
        self._classes: dict[str, int] = {}

    @property
    def loaders(self) -> list[DataLoader]:
        """Samples to fit probes on, and to test on; built once, as they are kept in memory."""
        if self._loaders is None:
            self._loaders = labeled_loaders(self.cfg)
        return self._loaders

    def encoder(self, run: Run, checkpoint: Path | None, seed: int) -> nn.Module:
        """Build a video encoder with the weights of a run, or random ones without a checkpoint."""
        dorsal = self.cfg.model.dorsal.backbone
        model = run.stages[-1].cfg.model if run.stages else self.cfg.model
        backbone = dict(model.get('dorsal', model.get('ventral', model)).backbone)
        backbone.update({key: dorsal[key] for key in ('num_frames', 'tubelet_size')})
        set_random_seed(seed)
        encoder = MODELS.build(dict(backbone, out_type='avg_featmap'))
        if max(self.settings['probe_blocks']) > encoder.depth:
            raise ConfigError(
                f'evaluation.probe_blocks={self.settings["probe_blocks"]} must be 1 to '
                f'{encoder.depth}, the blocks of run {run.name!r}'
            )
        if checkpoint is not None:
            state = read_checkpoint(checkpoint)['state_dict']
            if set(find_encoders(state).values()) == {'image'}:
                load_ventral_encoder(encoder, str(checkpoint), state)
            else:
                load_encoder(encoder, checkpoint, 'dorsal')
        return encoder.to(self.device)

    def probe(self, encoder: nn.Module) -> dict[str, dict[str, float]]:
        """Accuracy of probes on frozen features, fitted to all labeled samples, or few.

        Raises:
            ConfigError: The few do not have all classes.
        """
        settings = self.settings
        attentive = settings.get('attentive')
        (train, y), (test, y_test) = (
            block_features(encoder, self.preprocessor, loader, self.labels, bool(attentive))
            for loader in self.loaders
        )
        x, x_test = self._beside(train), self._beside(test)
        every, few = torch.arange(len(x)), choose_few(y, settings['probe_few'])
        scores = {
            name: {
                label: fit_linear_probe(
                    (x[chosen], y[label][chosen]), (x_test, y_test[label])
                ).value
                for label in self.labels
            }
            for name, chosen in (('probe', every), ('probe_few', few))
        }
        if settings.get('knn'):
            mean, deviation = x.mean(0), x.std(0).clamp_min(1e-6)
            x, x_test = (x - mean) / deviation, (x_test - mean) / deviation
            scores['knn'] = {
                label: knn_accuracy((x, y[label]), (x_test, y_test[label]), settings['knn']).value
                for label in self.labels
            }
        if attentive:
            scores['attentive'] = {
                label: fit_attentive_probe(
                    (train[-1], y[label]), (test[-1], y_test[label]), **attentive
                ).value
                for label in self.labels
            }
        return scores

    def trial(self, encoder: nn.Module, test: Mapping, labels: Sequence[str]) -> float:
        """Mean accuracy of the linear probe over some labels, on other samples.

        Args:
            encoder: The encoder.
            test: Overrides of the data set that is tested on.
            labels: Which.
        """
        other = copy.deepcopy(self.cfg.probe_test)
        other.dataset.update(test)
        loaders = (self.loaders[0], Runner.build_dataloader(other))
        (train, y), (found, y_test) = (
            block_features(encoder, self.preprocessor, loader, labels) for loader in loaders
        )
        x, x_test = self._beside(train), self._beside(found)
        scores = [fit_linear_probe((x, y[k]), (x_test, y_test[k])).value for k in labels]
        return sum(scores) / len(scores)

    def _beside(self, features: Sequence[Tensor]) -> Tensor:
        """The mean tokens of the blocks that are probed, side by side."""
        return torch.cat([features[i] for i in self.settings['probe_blocks']], dim=1)

    def finetune(
        self, encoder: nn.Module, steps: int, seed: int, other: Mapping | None = None
    ) -> dict[str, float]:
        """Accuracy after finetuning on few labeled clips, one linear head for each label.

        The heads learn at once, from the sum of their losses. ``encoder`` is changed. ``other``
        are settings that differ from those of the study.
        """
        settings = {**self.settings['finetune'], **(other or {})}
        if settings.get('without_time'):
            encoder.pos_embed.copy_(encoder.pos_embed.mean(1, keepdim=True))
        set_random_seed(seed)
        model = nn.ModuleDict(dict(encoder=encoder, heads=self._heads(encoder.embed_dims)))
        optimizer = build_optimizer(model, settings['lr'], settings.get('layer_decay'))
        warmup = settings['warmup']

        def rate(step: int) -> float:
            rising = (step + 1) / warmup
            falling = 0.5 + 0.5 * math.cos(math.pi * (step - warmup) / max(steps - warmup, 1))
            return min(rising, 1.0) if step < warmup else falling

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        batches = iter(self._labeled(seed, settings))
        model.train()
        for _ in range(steps):
            self._step(model, optimizer, next(batches))
            schedule.step()
        return self._test(model)

    @property
    def digest(self) -> str:
        """A name for what a step of finetuning computes."""
        finetune = self.settings['finetune']
        data = [self.cfg.probe_train.dataset, finetune['dataset'], finetune['batch_size']]
        return digest([self.cfg.model.dorsal.backbone, *data, self.labels])

    def time_finetuning(self) -> list[float]:
        """Seconds of some steps of finetuning, after one that is not counted."""
        backbone = dict(self.cfg.model.dorsal.backbone, out_type='avg_featmap')
        encoder = MODELS.build(backbone).to(self.device)
        model = nn.ModuleDict(dict(encoder=encoder, heads=self._heads(encoder.embed_dims)))
        optimizer = torch.optim.AdamW(model.parameters())
        batch = next(iter(self._labeled(0, self.settings['finetune'])))
        marks = []
        with fastest_threads(encoder):
            for _ in range(WARM_UP + TIMED):
                marks.append(clock())
                self._step(model, optimizer, batch)
            marks.append(clock())
        return [end - start for start, end in zip(marks, marks[1:], strict=False)][WARM_UP:]

    def _heads(self, width: int) -> nn.ModuleDict:
        heads = nn.ModuleDict({label: nn.Linear(width, n) for label, n in self.classes().items()})
        for head in heads.values():
            nn.init.trunc_normal_(head.weight, std=0.02)
            nn.init.zeros_(head.bias)
        return heads.to(self.device)

    def classes(self) -> dict[str, int]:
        """Number of classes of each label, from the samples that are tested on."""
        if not self._classes:
            samples = [sample for batch in self.loaders[1] for sample in batch['data_samples']]
            self._classes = {
                label: 1 + max(int(sample.get(label)) for sample in samples)
                for label in self.labels
            }
        return self._classes

    def tested(self) -> int:
        """Number of samples that are tested on."""
        return len(self.loaders[1].dataset)

    def _labeled(self, seed: int, settings: Mapping) -> DataLoader:
        """Other labeled clips for every seed."""
        dataset = {**self.cfg.probe_train.dataset, **settings['dataset']}
        if 'seed' in settings['dataset']:
            dataset['seed'] = settings['dataset']['seed'] + seed
        return Runner.build_dataloader(
            dict(
                batch_size=settings['batch_size'],
                num_workers=0,
                sampler=dict(type='InfiniteSampler', shuffle=True),
                collate_fn=dict(type='pseudo_collate'),
                dataset=dataset,
            ),
            seed=seed,
        )

    def _scores(self, model: nn.ModuleDict, batch: Mapping) -> dict[str, Tensor]:
        feature = model['encoder'](self.preprocessor(batch)['inputs'])[-1]
        return {label: head(feature) for label, head in model['heads'].items()}

    def _truth(self, batch: Mapping, label: str) -> Tensor:
        classes = [int(getattr(sample, label)) for sample in batch['data_samples']]
        return torch.tensor(classes, device=self.device)

    def _step(self, model: nn.ModuleDict, optimizer: torch.optim.Optimizer, batch: Mapping) -> None:
        scores = self._scores(model, batch)
        loss = sum(
            F.cross_entropy(score, self._truth(batch, label)) for label, score in scores.items()
        )
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    @torch.no_grad()
    def _test(self, model: nn.ModuleDict) -> dict[str, float]:
        model.eval()
        correct: dict[str, list[Tensor]] = {label: [] for label in self.labels}
        for batch in self.loaders[1]:
            for label, score in self._scores(model, batch).items():
                correct[label].append(score.argmax(1) == self._truth(batch, label))
        return {label: torch.cat(parts).float().mean().item() for label, parts in correct.items()}
