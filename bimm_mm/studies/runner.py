"""Run a study; results that exist are reused."""

import copy
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from mmengine.logging import MMLogger

from ..config.check import ConfigError, check_config
from ..engine.hooks.threads_hook import fastest_threads
from ..engine.screen import calm
from ..models.checkpoints import forget_initialization
from ..models.tokenizers.files import file_checksum
from ..utils.files import locked, write_text
from .evaluate import Evaluation
from .plan import Budget, Run, Stage, Study, digest, share_out
from .training import StepTimer, fit_schedule, measure_in_turn, train_stage


def _read_times(path: Path) -> dict[str, float]:
    return json.loads(path.read_text()) if path.is_file() else {}


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

    In the folder is one of the study's name, with ``step_times.json`` and ``results``, a file for
    each run, unit and seed. Next to it, ``stages`` has the checkpoints and logs of every training,
    and ``evaluations`` what came of it: studies that have a run in common share it. A result
    counts as long as the configs, the steps, the evaluation and what tools made for it are those
    of the study. Several processes of one machine may share a folder, each with runs of its own.

    Args:
        study: What to run.
        folder: Of all studies.
        say: Is told what is being done.
        measure: Whether times that are missing are measured; a report needs none.
    """

    def __init__(
        self,
        study: Study,
        folder: Path,
        say: Callable[[str], None] = print,
        measure: bool = True,
    ) -> None:
        self.study = study
        self.shared = folder  # with the other studies
        self.folder = folder / study.name
        self.say = say
        self.measure = measure
        calm(MMLogger.get_current_instance())  # of what is timed; a training has its own
        self.evaluation = Evaluation(study)
        self._times: dict[str, float] | None = None

    def prepare(self, names: Iterable[str], seeds: int) -> None:
        """Make what the runs need, and look for what would fail later, before anything is trained.

        What any run of the study needs is made, as all are timed together.

        Args:
            names: Runs that there will be.
            seeds: How many of each.

        Raises:
            ConfigError: A tool failed, a training's config is wrong, a checkpoint that a run
                starts from is not there, or a library is missing.
        """
        if self.study.evaluation.get('attentive') and find_spec('mmaction') is None:
            raise ConfigError(
                'evaluation.attentive needs mmaction2, which is not installed; without the '
                'attentive probe, which is another evaluation with results of its own: '
                '--cfg-options evaluation.attentive=None'
            )
        for name in names:
            for seed in range(seeds):
                self.study.runs[name].checkpoint_of(seed)  # raises, where it is not there
        for need in (need for run in self.study.runs.values() for need in run.needs):
            need.make(self.say)
        check_stages(self.study)

    @property
    def times(self) -> dict[str, float]:
        """Seconds per step of each stage, by digest, and of finetuning.

        Those of later runs are measured in turn with the reference and scaled to its first time, so
        that earlier budgets stay; with another reference, all are measured again.
        """
        if self._times is None:
            path = self.folder / 'step_times.json'
            stages = {s.digest: s for run in self.study.runs.values() for s in run.stages}
            finetune = f'finetune-{self.evaluation.digest}'
            needed = {*stages, finetune}
            known = _read_times(path)
            if self.measure and not needed <= known.keys():
                with locked(path, lambda: self.say('waiting for times, which another measures')):
                    known = _read_times(path)
                    if not needed <= known.keys():
                        known = self._measure(stages, finetune, known)
                        write_text(path, json.dumps(known, indent=1))
            self._times = {key: known[key] for key in stages if key in known}
            if finetune in known:
                self._times['finetune'] = known[finetune]
        return self._times

    def _measure(
        self, stages: Mapping[str, Stage], finetune: str, known: Mapping[str, float]
    ) -> dict[str, float]:
        """The seconds that are known, and those of stages and of finetuning that are not."""
        reference = self.study.runs[self.study.reference].stages[-1].digest
        if reference not in known:
            known = {}
        names = [key for key in [*stages, finetune] if key not in known or key == reference]
        self.say(f'measuring the time per step of {len(names)} trainings, in turn')
        timers = {
            key: StepTimer(stages[key].cfg) if key in stages else self.evaluation.time_finetuning
            for key in names
        }
        found = measure_in_turn(timers, self.say)
        scale = known.get(reference, found[reference]) / found[reference]
        return {key: seconds * scale for key, seconds in found.items()} | known

    def budget(self, run: Run, unit: str) -> Budget:
        """Return the budget of a run."""
        return share_out(self.study, run, unit, self.times)

    def result(self, run: Run, unit: str, seed: int) -> dict | None:
        """Return the stored result of a run, or None."""
        path = self._path(run, unit, seed)
        tuned = self.tuned(run)
        if not path.is_file() or tuned is None:
            return None
        result = json.loads(path.read_text())
        try:
            key = self._key(tuned, unit, seed)
        except KeyError:  # one of its trainings has no time: as it is now, it was never run
            return None
        return result if result['key'] == key else None

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
        self.search(run)
        run = self.tuned(run)
        self.say(
            f'{run.name}, equal {unit}, seed {seed}: steps {budget.steps or "none"}, then '
            f'{budget.finetune_steps} of finetuning'
        )
        path = self._path(run, unit, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            self.say(f'{path} is of other settings and will be replaced; --work-dir keeps both')
        checkpoint, explained = self._train(run, budget.steps, seed)
        scores = self._evaluate(run, checkpoint, seed, budget.finetune_steps)
        result = dict(
            key=self._key(run, unit, seed),
            run=run.name,
            unit=unit,
            seed=seed,
            budget=asdict(budget),
            explained=explained,
            log=str(checkpoint.parent) if checkpoint and run.stages else None,
            scores=scores,
        )
        write_text(path, json.dumps(result, indent=1))
        return result

    def _evaluate(self, run: Run, checkpoint: Path | None, seed: int, steps: int) -> dict:
        """Scores of an encoder; those that are known are taken.

        The same training, and so the same evaluation, may serve several runs, and the same probes
        runs that differ in finetuning.
        """
        source = f'random-{digest(self.evaluation.cfg.model.dorsal.backbone)}'
        if checkpoint is not None:
            source = checkpoint.parent.name if run.stages else file_checksum(checkpoint)
        settings = self._settings()
        frozen = {key: value for key, value in settings.items() if key != 'finetune'}

        def probe() -> dict:
            encoder = self.evaluation.encoder(run, checkpoint, seed)
            with fastest_threads(encoder):
                return self.evaluation.probe(encoder)

        def finetune() -> dict:
            encoder = self.evaluation.encoder(run, checkpoint, seed)
            with fastest_threads(encoder):
                return self.evaluation.finetune(encoder, steps, seed, run.finetune)

        how = {**settings['finetune'], **run.finetune}
        tuned = [source, seed, steps, how, settings['data'], settings['labels']]
        scores = {} if run.finetune_all else self._known([source, seed, frozen], probe)
        return scores | dict(finetune=self._known(tuned, finetune))

    def _known(self, described: object, make: Callable[[], dict]) -> dict:
        """What was found for something that is described, or is found now."""
        path = self.shared / 'evaluations' / f'{digest(described)}.json'
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, json.dumps(make()))
        return json.loads(path.read_text())

    def trials(self, run: Run) -> dict[float, float]:
        """What was found for each learning rate; empty before the search."""
        search, path = self.study.search, self.folder / 'search' / f'{run.name}.json'
        if search is None or not path.is_file():
            return {}
        record = json.loads(path.read_text())
        if record['key'] != self._search_key(run):
            return {}
        return dict(zip(search.rates, record['scores'], strict=True))

    def tuned(self, run: Run) -> Run | None:
        """The run at its best learning rate; None where it has not been searched yet."""
        search = self.study.search
        if search is None or not run.stages:
            return run
        if len(search.rates) == 1:
            return run.at_rate(search.rates[0])
        trials = self.trials(run)
        return run.at_rate(max(trials, key=trials.get)) if trials else None

    def search(self, run: Run) -> None:
        """Try the learning rates of the study, where that was not done."""
        search = self.study.search
        if search is None or len(search.rates) == 1 or not run.stages or self.trials(run):
            return
        steps = search.steps(self.budget(run, self.study.units[0]).steps)
        scores = []
        for rate in search.rates:
            tried = run.at_rate(rate)
            checkpoint, _ = self._train(tried, steps, search.seed)
            encoder = self.evaluation.encoder(tried, checkpoint, search.seed)
            with fastest_threads(encoder):
                scores.append(self.evaluation.trial(encoder, search.test or {}, self.study.judge))
            self.say(f'{run.name}, trial of lr {rate:g}: steps {steps}, {100 * scores[-1]:.1f} %')
        path = self.folder / 'search' / f'{run.name}.json'
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(dict(key=self._search_key(run), scores=scores, steps=steps)))

    def _search_key(self, run: Run) -> str:
        steps = self.study.search.steps(self.budget(run, self.study.units[0]).steps)
        stages = [stage.digest for stage in run.stages]
        search = self.study.search
        tried = [search.rates, search.seed, search.test, self._settings()]
        return digest([stages, steps, *tried, *(need.description() for need in run.needs)])

    def _train(self, run: Run, steps: Sequence[int], seed: int) -> tuple[Path | None, dict]:
        """The checkpoint of the last stage, and what its targets explain."""
        checkpoint, explained = run.checkpoint_of(seed), {}
        for need in run.needs:  # again, where another study has made its own in the same place
            need.make(self.say)
        for stage, count in zip(run.stages, steps, strict=True):
            checkpoint, explained = train_stage(
                stage, count, seed, checkpoint, self.shared / 'stages', run.needs, self.say
            )
        return checkpoint, explained

    def _path(self, run: Run, unit: str, seed: int) -> Path:
        return self.folder / 'results' / f'{run.name}-{unit}-seed{seed}.json'

    def _settings(self) -> dict:
        """Return the settings that the evaluation depends on."""
        cfg = self.evaluation.cfg
        keys = ('probe_train', 'probe_test', 'val_dataloader')
        data = {key: cfg.get(key) for key in keys}
        return dict(self.study.evaluation, data=data, config='')

    def _key(self, run: Run, unit: str, seed: int) -> str:
        budget = self.budget(self.study.runs[run.name], unit)
        stages = [stage.digest for stage in run.stages]
        described = [stages, budget.steps, budget.finetune_steps, seed, self._settings()]
        described += [run.finetune] if run.finetune else []
        described += [need.description() for need in run.needs]
        checkpoint = run.checkpoint_of(seed)
        return digest(described + ([file_checksum(checkpoint)] if checkpoint else []))
