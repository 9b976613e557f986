"""Run a study; results that exist are reused."""

import copy
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from ..config.check import check_config
from ..models.checkpoints import forget_initialization
from ..utils.files import write_text
from .evaluate import Evaluation
from .plan import Budget, Run, Study, digest, share_out
from .training import StepTimer, fit_schedule, measure_in_turn, train_stage


def check_stages(study: Study) -> None:
    """Check the config of every training as tools/train.py does, before anything is timed.

    Raises:
        ConfigError: Something in it would fail later.
    """
    for run in study.runs.values():
        for index, stage in enumerate(run.stages):
            cfg = copy.deepcopy(stage.cfg)
            fit_schedule(cfg, 2)
            if index:  # it starts from the stage before
                forget_initialization(cfg.model)
            cfg.pop('param_scheduler', None)
            check_config(cfg, loops=['train'])


class StudyRunner:
    """Trains and evaluates the runs of a study, and keeps the results in a folder.

    In the folder is one of the study's name, with ``step_times.json``, measured once, and
    ``results``, a file for each run, unit and seed. Next to it, ``stages`` has the checkpoints and
    logs of every training, and ``evaluations`` what came of it: studies that have a run in common
    share it. A result counts as long as the configs, the steps and the evaluation that it was made
    with are those of the study.

    Args:
        study: What to run.
        folder: Of all studies.
        say: Is told what is being done.
    """

    def __init__(self, study: Study, folder: Path, say: Callable[[str], None] = print) -> None:
        self.study = study
        self.shared = folder  # with the other studies
        self.folder = folder / study.name
        self.say = say
        check_stages(study)
        self.evaluation = Evaluation(study)
        (self.folder / 'results').mkdir(parents=True, exist_ok=True)
        self._times: dict[str, float] | None = None

    @property
    def times(self) -> dict[str, float]:
        """Seconds per step of each stage, by digest, and of finetuning."""
        if self._times is None:
            path = self.folder / 'step_times.json'
            known = json.loads(path.read_text()) if path.is_file() else {}
            stages = {s.digest: s for run in self.study.runs.values() for s in run.stages}
            needed = {*stages, 'finetune'}
            if not needed <= set(known):
                # all again, even those known: only figures of one measurement can be compared
                self.say(f'measuring the time per step of {len(needed)} trainings, in turn')
                timers = {key: StepTimer(stage.cfg) for key, stage in stages.items()}
                known = measure_in_turn({**timers, 'finetune': self.evaluation.time_finetuning})
                write_text(path, json.dumps(known, indent=1))
            self._times = {key: known[key] for key in needed}
        return self._times

    def budget(self, run: Run, unit: str) -> Budget:
        """Return the budget of a run."""
        return share_out(self.study, run, unit, self.times)

    def result(self, run: Run, unit: str, seed: int) -> dict | None:
        """Return the stored result of a run, or None."""
        path = self._path(run, unit, seed)
        if not path.is_file():
            return None
        result = json.loads(path.read_text())
        return result if result['key'] == self._key(run, unit, seed) else None

    def results(self, unit: str, seeds: int) -> dict[str, list[dict]]:
        """Return all stored results by the name of the run, in the order of the seeds."""
        found = {}
        for name, run in self.study.runs.items():
            some = [self.result(run, unit, seed) for seed in range(seeds)]
            found[name] = [result for result in some if result is not None]
        return found

    def run(self, run: Run, unit: str, seed: int) -> dict:
        """Train and evaluate a run, reusing existing results."""
        budget = self.budget(run, unit)
        self.say(
            f'{run.name}, equal {unit}, seed {seed}: steps {budget.steps or "none"}, then '
            f'{budget.finetune_steps} of finetuning'
        )
        checkpoint, explained = None, {}
        for stage, steps in zip(run.stages, budget.steps, strict=True):
            checkpoint, explained = train_stage(
                stage, steps, seed, checkpoint, self.shared / 'stages'
            )
        # the same training, and so the same evaluation, may serve several runs
        random = digest(self.evaluation.cfg.model.dorsal.backbone)
        source = checkpoint.parent.name if checkpoint else f'random-{random}'
        key = digest([source, seed, budget.finetune_steps, run.finetune_all, self._settings()])
        known = self.shared / 'evaluations' / f'{key}.json'
        if not known.is_file():
            encoder = self.evaluation.encoder(run, checkpoint, seed)
            scores = {} if run.finetune_all else self.evaluation.probe(encoder)
            scores['finetune'] = self.evaluation.finetune(encoder, budget.finetune_steps, seed)
            known.parent.mkdir(exist_ok=True)
            write_text(known, json.dumps(scores))
        result = dict(
            key=self._key(run, unit, seed),
            run=run.name,
            unit=unit,
            seed=seed,
            budget=asdict(budget),
            explained=explained,
            log=str(checkpoint.parent) if checkpoint else None,
            scores=json.loads(known.read_text()),
        )
        write_text(self._path(run, unit, seed), json.dumps(result, indent=1))
        return result

    def _path(self, run: Run, unit: str, seed: int) -> Path:
        return self.folder / 'results' / f'{run.name}-{unit}-seed{seed}.json'

    def _settings(self) -> dict:
        """Return the settings that the evaluation depends on."""
        cfg = self.evaluation.cfg
        keys = ('probe_train', 'probe_test', 'val_dataloader')
        data = {key: cfg.get(key) for key in keys}
        return dict(self.study.evaluation, data=data, config='')

    def _key(self, run: Run, unit: str, seed: int) -> str:
        budget = self.budget(run, unit)
        stages = [stage.digest for stage in run.stages]
        return digest([stages, budget.steps, budget.finetune_steps, seed, self._settings()])
