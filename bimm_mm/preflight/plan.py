"""How long a run will take: from what was measured, and with other settings."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from .loading import LoaderRate

WORTH_IT = 0.02  # of the run's time; less is noise


@dataclass(frozen=True)
class Advice:
    """A change of the settings, and what it does.

    Attributes:
        what: In words.
        options: For ``--cfg-options``.
        flags: Other arguments of ``bimm train``.
        variables: Of the environment.
        step: Seconds of the bare step, beside those without it.
        workers: Of the data loader; None to leave them.
        checkpoints: Number of checkpoints, beside that without it.
        changes: What it changes in the training itself; '' for nothing but its time.
    """

    what: str
    options: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    step: float = 1.0
    workers: int | None = None
    checkpoints: float = 1.0
    changes: str = ''


@dataclass(frozen=True)
class Plan:
    """Times of which a run is made.

    Attributes:
        iterations: Of the whole run.
        iteration: Mean seconds of one, as measured.
        waiting: Seconds of it that the device waits for data.
        step: Seconds of its step, without hooks and log.
        loader: How fast the loader is alone; None where that is not known.
        checkpoints: Of the whole run.
        checkpoint_seconds: To write one.
    """

    iterations: int
    iteration: float
    waiting: float
    step: float
    loader: LoaderRate | None = None
    checkpoints: int = 0
    checkpoint_seconds: float = 0.0

    def iteration_seconds(self, advice: Iterable[Advice] = ()) -> float:
        """Seconds of an iteration in the long run, with some changes.

        The loader fills its queue before the first iteration; later it gives what it can.
        """
        ratio, workers = 1.0, None
        for change in advice:
            ratio *= change.step
            workers = change.workers or workers
        work = self.working(ratio)
        if self.loader is None:
            return work + self.waiting
        one = max(self.loader.workers, 1)
        loading = 1 / (self.loader.batches / one * (workers or one))
        if not (workers or self.loader.workers):  # the process itself loads, before each step
            return work + loading
        return max(work, loading)

    def working(self, ratio: float = 1.0) -> float:
        """Seconds of an iteration but for its data, where the step takes ``ratio`` of its time."""
        return self.iteration - self.waiting - self.step + self.step * ratio

    def seconds(self, advice: Iterable[Advice] = ()) -> float:
        """Seconds of the whole run, with some changes."""
        advice = list(advice)
        number = float(self.checkpoints)
        for change in advice:
            number *= change.checkpoints
        return self.iterations * self.iteration_seconds(advice) + number * self.checkpoint_seconds

    def gain(self, change: Advice, advice: Iterable[Advice]) -> float:
        """By which share a run with all of ``advice`` would be longer without ``change``."""
        others = [other for other in advice if other is not change]
        return self.seconds(others) / self.seconds([*others, change]) - 1


@dataclass
class Advised:
    """What to change, in order of gain.

    Attributes:
        take: Changes of the run's time only, each with its gain.
        consider: Changes of the training, each with its gain beside those of ``take``.
        tried: What was tried, in words, with the result.
    """

    take: list[tuple[Advice, float]] = field(default_factory=list)
    consider: list[tuple[Advice, float]] = field(default_factory=list)
    tried: list[str] = field(default_factory=list)

    @property
    def changes(self) -> list[Advice]:
        """The changes to take."""
        return [change for change, _ in self.take]


def rank(plan: Plan, changes: Iterable[Advice], tried: list[str]) -> Advised:
    """Order changes by their gain, and leave out what gains nothing."""
    changes = list(changes)
    alike = [change for change in changes if not change.changes]
    while alike:  # what gains least goes first, since others may do what it does
        gains = [plan.gain(change, alike) for change in alike]
        if min(gains) >= WORTH_IT:
            break
        alike.pop(gains.index(min(gains)))
    take = [(change, plan.gain(change, alike)) for change in alike]
    others = [(c, plan.gain(c, [*alike, c])) for c in changes if c.changes]
    return Advised(
        sorted(take, key=lambda pair: -pair[1]),
        sorted((pair for pair in others if pair[1] >= WORTH_IT), key=lambda pair: -pair[1]),
        tried,
    )


def loader_advice(plan: Plan, changes: Iterable[Advice]) -> list[Advice]:
    """What to do where the loader is slower than the rest of an iteration.

    Args:
        plan: Of the run.
        changes: Those of the step that are advised; with them the loader must keep up.
    """
    if plan.loader is None:
        return []
    ratio = 1.0
    for change in changes:
        ratio *= 1.0 if change.changes else change.step
    needed = plan.loader.workers_for(1.1 / plan.working(ratio))
    workers = min(needed, plan.loader.cores)
    if plan.loader.workers and workers <= plan.loader.workers:
        return []
    told = f'{workers} workers load data' + ('' if needed <= workers else f', of {needed} wanted')
    return [
        Advice(
            told,
            (
                f'train_dataloader.num_workers={workers}',
                'train_dataloader.persistent_workers=True',
            ),
            workers=workers,
        )
    ]


def checkpoint_advice(plan: Plan, interval: int, unit: str) -> list[Advice]:
    """Fewer checkpoints, where they take more than a fiftieth of the run.

    Args:
        plan: Of the run.
        interval: Between two checkpoints.
        unit: Of the interval, 'epochs' or 'iterations'.
    """
    if not plan.checkpoints or not interval:
        return []
    share = plan.checkpoints * plan.checkpoint_seconds / plan.seconds()
    if share <= WORTH_IT:
        return []
    larger = interval * -int(-share // (WORTH_IT / 2))
    return [
        Advice(
            f'a checkpoint every {larger} {unit} instead of {interval}',
            (f'default_hooks.checkpoint.interval={larger}',),
            checkpoints=interval / larger,
        )
    ]
