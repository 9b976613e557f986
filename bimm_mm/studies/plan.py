"""Definition of a study: runs of one or more stages, a budget, and comparisons."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from mmengine.config import Config

from ..config.check import ConfigError
from ..config.loading import merge_config
from ..config.paths import CONFIGS
from .needs import Need
from .search import Search

UNITS = ('seconds', 'steps')


RATE = 'optim_wrapper.optimizer.lr'
# what of a config decides how a training goes; hooks and logs are left aside
DECISIVE = ('model', 'train_dataloader', 'optim_wrapper', 'param_scheduler', 'train_cfg')


@dataclass(frozen=True)
class Stage:
    """A training that is part of a run.

    Attributes:
        config: A pretraining config.
        cfg: What was in it when the study was read, with overrides.
        steps: Iterations; None where the budget decides.
        digest: A name for what is trained and how, without the number of steps.
        options: The overrides.
    """

    config: Path
    cfg: Config
    steps: int | None
    digest: str
    options: Mapping

    @classmethod
    def read(cls, config: Path, options: dict, steps: int | None) -> 'Stage':
        """Read the config and merge overrides, as ``--cfg-options`` of tools/train.py.

        Raises:
            ConfigError: An override reaches nothing.
        """
        cfg = merge_config(str(config), options)
        return cls(config, cfg, steps, digest([cfg.get(key) for key in DECISIVE]), options)

    def at_rate(self, rate: float) -> 'Stage':
        """The same with another learning rate."""
        return self.read(self.config, {**self.options, RATE: rate}, self.steps)


@dataclass(frozen=True)
class Run:
    """One row of the report: stages one after another, then probe and finetuning.

    Attributes:
        name: In files.
        label: In the report.
        stages: The branches of a later one start from the ventral encoder of
            the one before (``init_dorsal_from``). None at all: a random encoder.
        finetune_all: Whether the budget of the stages goes into finetuning instead.
        needs: What is made before, at a cost that the budget does not have.
        finetune: Settings of ``evaluation.finetune`` that this run has otherwise.
        checkpoint: Instead of stages, one that is there; ``{seed}`` in it is the seed of the run.
    """

    name: str
    label: str
    stages: tuple[Stage, ...]
    finetune_all: bool = False
    needs: tuple[Need, ...] = ()
    finetune: Mapping = field(default_factory=dict)
    checkpoint: str | None = None

    def checkpoint_of(self, seed: int) -> Path | None:
        """The checkpoint that is there; None where there is none to be.

        Raises:
            ConfigError: There is no such file.
        """
        if self.checkpoint is None:
            return None
        path = Path(self.checkpoint.format(seed=seed))
        if not path.is_file():
            raise ConfigError(f'run {self.name!r}: there is no checkpoint {path}')
        return path

    def at_rate(self, rate: float) -> 'Run':
        """The same with another learning rate in all stages."""
        return replace(self, stages=tuple(stage.at_rate(rate) for stage in self.stages))


@dataclass(frozen=True)
class Question:
    """Runs that differ in one thing, and what somebody else found.

    Attributes:
        name: What they differ in.
        rows: Run and the figure reported elsewhere, the larger the
            better.
        source: Of these figures.
    """

    name: str
    rows: dict[str, float | None]
    source: str = ''


@dataclass(frozen=True)
class Study:
    """A study file, read and checked.

    Attributes:
        name: Of the file.
        title: Of the report.
        about: A paragraph for the report.
        runs: By name.
        reference: The run whose budget all others get.
        reference_steps: Iterations of its last stage.
        units: In what runs are equal: 'seconds', 'steps', or both in turn.
        questions: What is compared.
        judge: Labels whose mean accuracy decides an ordering.
        evaluation: See :mod:`.evaluate`.
        search: Of learning rates; None where those of the configs are taken.
    """

    name: str
    title: str
    about: str
    runs: dict[str, Run]
    reference: str
    reference_steps: int
    units: tuple[str, ...]
    questions: tuple[Question, ...]
    judge: tuple[str, ...]
    evaluation: dict
    search: Search | None = None


def digest(content: object) -> str:
    """Eight characters that differ where the content, of plain types, differs."""
    return hashlib.sha1(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:8]


EVALUATION = ('config', 'labels', 'probe_blocks', 'probe_few', 'finetune')
EVALUATION_MORE = ('options', 'knn', 'attentive')
FINETUNE = ('dataset', 'batch_size', 'steps', 'warmup', 'lr')
FINETUNE_MORE = ('layer_decay', 'without_time')
ATTENTIVE = ('steps', 'batch_size', 'lr')


def read_study(path: str | Path, options: dict | None = None) -> Study:
    """Read a study file: a Python config with the fields of :class:`Study`.

    ``runs`` maps a name to ``dict(stages=[...], label=..., finetune_all=...)``, a stage is
    ``dict(config=..., options=..., steps=...)`` with a path relative to the study file;
    ``reference`` is ``dict(run=..., steps=...)``; ``needs`` of a run and ``search`` are those of
    :class:`Need` and :class:`Search`. :file:`configs/studies` has examples.

    Args:
        path: The file, or the name of one in :file:`configs/studies`.
        options: New values of the file's variables.

    Raises:
        ConfigError: There is no such file, a field is missing, or does not fit the others.
    """
    path = Path(path)
    if not path.is_file():
        known = CONFIGS / 'studies' / f'{path.stem}.py'
        if len(path.parts) > 1 or not known.is_file():
            raise ConfigError(f'there is no study {path}; configs/studies has some')
        path = known
    cfg = merge_config(str(path), options or {}).to_dict()
    needed = ('title', 'runs', 'reference', 'evaluation')
    missing = [key for key in needed if key not in cfg]
    if missing:
        raise ConfigError(f'{path} lacks {", ".join(missing)}: is it a study?')
    runs = {name: _read_run(path, name, run) for name, run in cfg['runs'].items()}
    reference = cfg['reference']
    if reference.get('run') not in runs or not runs[reference['run']].stages:
        raise ConfigError(
            f'reference.run={reference.get("run")!r} must be a run with stages, one of '
            f'{", ".join(name for name, run in runs.items() if run.stages)}'
        )
    if not isinstance(reference.get('steps'), int) or reference['steps'] < 1:
        raise ConfigError(f'reference.steps={reference.get("steps")!r} must be 1 or more')
    units = tuple(cfg.get('units', ('seconds',)))
    if not units or not set(units) <= set(UNITS):
        raise ConfigError(f'units={units} must be some of {", ".join(UNITS)}')
    questions = tuple(Question(**question) for question in cfg.get('questions', ()))
    for question in questions:
        unknown = sorted(set(question.rows) - set(runs))
        if unknown:
            raise ConfigError(f'question {question.name!r} names no run: {", ".join(unknown)}')
    evaluation = _read_evaluation(path, cfg['evaluation'])
    few = evaluation['probe_few']
    if not isinstance(few, int) or few < 1:
        raise ConfigError(f'evaluation.probe_few={few!r} must be a number of samples, 1 or more')
    judge = tuple(cfg.get('judge', evaluation['labels']))
    if not set(judge) <= set(evaluation['labels']):
        raise ConfigError(f'judge={judge} must be some of {", ".join(evaluation["labels"])}')
    return Study(
        name=path.stem,
        title=cfg['title'],
        about=cfg.get('about', ''),
        runs=runs,
        reference=reference['run'],
        reference_steps=reference['steps'],
        units=units,
        questions=questions,
        judge=judge,
        evaluation=evaluation,
        search=Search.read(cfg['search']) if cfg.get('search') else None,
    )


def _read_evaluation(study: Path, evaluation: Mapping) -> dict:
    """The settings of the evaluation, all of them there."""
    finetune = evaluation.get('finetune') or {}
    missing = [f'evaluation.{key}' for key in EVALUATION if key not in evaluation]
    missing += [f'evaluation.finetune.{key}' for key in FINETUNE if key not in finetune]
    if missing:
        raise ConfigError(
            f'{study} lacks {", ".join(missing)}; configs/studies/own_videos.py has an example of '
            'each'
        )
    attentive = evaluation.get('attentive') or {}
    for name, given, known in (
        ('evaluation', evaluation, [*EVALUATION, *EVALUATION_MORE]),
        ('evaluation.finetune', finetune, [*FINETUNE, *FINETUNE_MORE]),
        ('evaluation.attentive', attentive, ATTENTIVE),
    ):
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise ConfigError(
                f'{study}: {name} has {", ".join(unknown)}; it takes {", ".join(known)}'
            )
    if attentive and 'steps' not in attentive:
        raise ConfigError(f'{study} lacks evaluation.attentive.steps')
    return dict(evaluation, config=str(_find(study, evaluation['config'])))


def _find(study: Path, config: str) -> Path:
    found = (study.parent / config).resolve()
    if not found.is_file():
        raise ConfigError(f'{study} names a config that is not there: {config}')
    return found


def _read_run(path: Path, name: str, run: Mapping) -> Run:
    unknown = set(run) - {'label', 'stages', 'finetune_all', 'needs', 'finetune', 'checkpoint'}
    if unknown or 'stages' not in run or (run['stages'] and run.get('checkpoint')):
        raise ConfigError(
            f'run {name!r} has {", ".join(sorted(run))}; it needs stages, which are empty where '
            'there is a checkpoint, and may have label, checkpoint, finetune, finetune_all and '
            'needs'
        )
    stages = tuple(
        Stage.read(_find(path, stage['config']), stage.get('options', {}), stage.get('steps'))
        for stage in run['stages']
    )
    if any(stage.steps is None for stage in stages[:-1]):
        raise ConfigError(f'run {name!r}: every stage but the last needs steps')
    if stages and stages[-1].steps is not None:
        raise ConfigError(f'run {name!r}: the steps of the last stage follow from the budget')
    needs = tuple(Need.read(need, partial(_find, path)) for need in run.get('needs', ()))
    finetune = run.get('finetune', {})
    known = {*FINETUNE, *FINETUNE_MORE}
    if not isinstance(finetune, Mapping) or not set(finetune) <= known:
        raise ConfigError(
            f'run {name!r}: finetune={finetune} must be a dict with some of '
            f'{", ".join([*FINETUNE, *FINETUNE_MORE])}'
        )
    all_of_it = run.get('finetune_all', False)
    label, checkpoint = run.get('label', name), run.get('checkpoint')
    return Run(name, label, stages, all_of_it, needs, finetune, checkpoint)


@dataclass(frozen=True)
class Budget:
    """What a run gets.

    Attributes:
        steps: Of each stage.
        finetune_steps: On top.
        seconds: What both cost, by the measured time per step.
    """

    steps: tuple[int, ...]
    finetune_steps: int
    seconds: float


def share_out(study: Study, run: Run, unit: str, times: Mapping[str, float]) -> Budget:
    """The steps of a run, so that it gets as much of ``unit`` as the reference.

    Args:
        study: Of the run.
        run: Of the study.
        unit: 'seconds' or 'steps', both counted over all stages.
        times: Seconds per step by digest of a stage, and of 'finetune'.

    Raises:
        ConfigError: The stages before the last use up all there is.
    """

    def amounts(stages: Sequence[Stage]) -> list[float]:
        return [1.0 if unit == 'steps' else times[stage.digest] for stage in stages]

    reference = study.runs[study.reference].stages
    steps = [*(stage.steps for stage in reference[:-1]), study.reference_steps]
    total = sum(n * amount for n, amount in zip(steps, amounts(reference), strict=True))
    finetune = {**study.evaluation['finetune'], **run.finetune}['steps']
    if run.finetune_all:
        finetune += round(total / (1.0 if unit == 'steps' else times['finetune']))
    given: list[int] = []
    if run.stages:
        given = [stage.steps for stage in run.stages[:-1]]
        *before, last = amounts(run.stages)
        left = total - sum(n * amount for n, amount in zip(given, before, strict=True))
        given.append(round(left / last))
        if given[-1] < 1:
            raise ConfigError(
                f'run {run.name!r}: the stages before the last use up the budget of '
                f'{total:.0f} {unit}; raise reference.steps, or give them fewer'
            )
    seconds = finetune * times['finetune'] + sum(
        n * times[stage.digest] for n, stage in zip(given, run.stages, strict=True)
    )
    return Budget(tuple(given), finetune, seconds)
