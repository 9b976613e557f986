"""Measure what a run will cost, and put it on one page."""

import math
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dist import broadcast_object_list, get_dist_info, is_main_process
from mmengine.runner import EpochBasedTrainLoop, FlexibleRunner, Runner

from ..evaluation.analysis.peaks import device_name, measured_peak, sheet_peak
from .clock import Times
from .loading import LoaderRate, measure_loader
from .plan import Advised, Plan, checkpoint_advice, loader_advice, rank
from .steps import BareSteps, memory_at_hand
from .training import Checkpoints, measure_checkpoint, run_iterations, trial_config
from .trials import Trials, precision_of

TRIAL_SECONDS = 15  # for the steps of a trial, which are 2 to 9


@dataclass(frozen=True)
class Settings:
    """What a preflight is to do.

    Attributes:
        iterations: To time.
        warmup: Iterations before.
        kinds: Settings to try, of ``trials.KINDS``.
        gpus: Devices of the run that is planned; None for as many as measure.
        price: Of a device for an hour; None where nobody asks.
        peak: FLOP per second of a device; None for its data sheet's, else a measured product's.
    """

    iterations: int = 50
    warmup: int = 10
    kinds: tuple[str, ...] = ()
    gpus: int | None = None
    price: float | None = None
    peak: float | None = None


@dataclass
class Report:
    """What was measured, and what follows.

    Attributes:
        machine: Date, device and its type, versions, precision.
        times: Of the iterations.
        bare: Seconds of the bare step.
        small: Seconds of the bare step with an eighth of the batch; None for batches below 8.
        peak: FLOP per second of the device.
        peak_source: 'data sheet', 'given' or 'measured'.
        memory: Of a step, and the largest batch; empty where that was not tried.
        loader: The loader alone; None where it cannot be timed.
        checkpoints: What they take; None where they cannot be timed.
        plan: Of the whole run.
        advised: What to change.
        world: Processes that measured.
        gpus: Of the planned run.
        price: As in :class:`Settings`.
    """

    machine: dict[str, str]
    times: Times
    bare: float
    small: float | None
    peak: float
    peak_source: str
    memory: dict
    loader: LoaderRate | None
    checkpoints: Checkpoints | None
    plan: Plan
    advised: Advised
    world: int
    gpus: int
    price: float | None

    @property
    def ratio(self) -> float:
        """What a step takes with all that is advised, beside today's."""
        return math.prod(change.step for change in self.advised.changes)

    @property
    def mfu(self) -> float:
        """Share of the device's peak that the matrix products of an iteration use."""
        return self.times.flops / self.times.mean / self.peak

    def hours(self, advised: bool) -> float:
        """Hours of the whole run on :attr:`gpus` devices."""
        return self.plan.seconds(self.advised.changes if advised else ()) / 3600

    def rate(self, advised: bool) -> float:
        """Samples per second and device, in the long run."""
        changes = self.advised.changes if advised else ()
        return self.times.samples / self.plan.iteration_seconds(changes)

    def to_dict(self) -> dict:
        """Plain values, for JSON."""
        kept = {key: value for key, value in vars(self).items() if key not in ('times', 'advised')}
        result = {
            k: asdict(v) if hasattr(v, '__dataclass_fields__') else v for k, v in kept.items()
        }
        times = {key: value for key, value in vars(self.times).items() if key != 'batch'}
        pairs = dict(take=self.advised.take, consider=self.advised.consider)
        advised = {
            name: [dict(asdict(change), gain=gain) for change, gain in changes]
            for name, changes in pairs.items()
        }
        names = {False: 'today', True: 'advised'}
        projected = {
            name: dict(
                hours=self.hours(key),
                device_hours=self.hours(key) * self.gpus,
                samples_per_second_and_device=self.rate(key),
                cost=None if self.price is None else self.hours(key) * self.gpus * self.price,
            )
            for key, name in names.items()
        }
        return result | dict(
            times=times | dict(mean=self.times.mean, median=statistics.median(times['iterations'])),
            mfu=self.mfu,
            advised=advised | dict(tried=self.advised.tried, step_ratio=self.ratio),
            run=projected,
        )


def measure(cfg: Config, settings: Settings, tell: Callable[[str], None]) -> Report:
    """Measure a config's run on its data and hardware; to be called by all processes of it.

    Args:
        cfg: A checked config with ``launcher`` and ``work_dir`` set.
        settings: What to do.
        tell: Called with a line when something begins.

    Returns:
        The report, the same in all processes.

    Raises:
        RuntimeError: The run has fewer iterations, or its data set too few samples.
    """
    with tempfile.TemporaryDirectory(prefix='.preflight_', dir=_disk_of(cfg)) as folder:
        folders = [folder]  # that of the first process
        broadcast_object_list(folders)
        trial = trial_config(cfg, folders[0])
        seen = iter(range(1, settings.warmup + settings.iterations + 1))
        total = settings.warmup + settings.iterations
        tell(f'{total} iterations, of which {settings.warmup} warm up')
        runner, times = run_iterations(
            trial,
            settings.warmup,
            settings.iterations,
            lambda: _tell_sometimes(tell, next(seen), total),
        )
        return _look_closer(cfg, trial, settings, runner, times, tell)


def _look_closer(
    cfg: Config,
    trial: Config,
    settings: Settings,
    runner: Runner | FlexibleRunner,
    times: Times,
    tell: Callable[[str], None],
) -> Report:
    """Measure the rest with the model that has been trained for some iterations."""
    torch.set_num_threads(times.threads)  # which a hook may have picked for the iterations
    tell('a checkpoint')
    checkpoints = measure_checkpoint(cfg, runner)
    tell('the data loader alone')
    seed = trial.get('randomness', {}).get('seed') or 0
    loader = measure_loader(trial.train_dataloader, seed, settings.iterations // 5 or 1)
    tell('the bare step')
    number = [max(2, min(9, round(TRIAL_SECONDS / times.mean)))]
    broadcast_object_list(number)
    steps = BareSteps(runner.model, runner.optim_wrapper, times.batch, number[0])
    bare = steps.seconds()
    small = steps.seconds(steps.size // 8) if steps.size >= 8 else None
    precision = precision_of(cfg)
    peak, source = _peak(steps.device, precision, settings.peak)
    trials = Trials(trial, steps)
    if settings.kinds:
        tell(f'other settings: {", ".join(settings.kinds)}')
        trials.run(settings.kinds)
    _, world = get_dist_info()
    gpus = settings.gpus or world
    plan = Plan(
        _iterations(runner, world, gpus),
        times.mean,
        times.parts['waiting for data'],
        times.step,
        loader,
        checkpoints.number if checkpoints else 0,
        checkpoints.seconds if checkpoints else 0.0,
    )
    changes = [*trials.advice, *loader_advice(plan, trials.advice)]
    if checkpoints:
        hook = cfg.default_hooks.checkpoint
        unit = 'epochs' if hook.get('by_epoch', True) else 'iterations'
        changes += checkpoint_advice(plan, hook.get('interval', 0), unit)
    reports = [
        Report(
            _machine(steps.device, world, precision),
            times,
            bare,
            small,
            peak,
            source,
            trials.memory | dict(at_hand=memory_at_hand(steps.device)),
            loader,
            checkpoints,
            plan,
            rank(plan, changes, trials.tried),
            world,
            gpus,
            settings.price,
        )
    ]
    times.batch = None
    broadcast_object_list(reports)
    return reports[0]


def _tell_sometimes(tell: Callable[[str], None], done: int, total: int) -> None:
    if done % max(1, total // 6) == 0:
        tell(f'  {done} of {total}')


def _disk_of(cfg: Config) -> str:
    """The nearest folder there is to the one that the run writes into: it is on the same disk."""
    folder = Path(cfg.work_dir).absolute()
    while not folder.is_dir():
        folder = folder.parent
    return str(folder)


def _iterations(runner: Runner | FlexibleRunner, world: int, gpus: int) -> int:
    """Iterations of the whole run; with more devices, epochs have fewer."""
    loop = runner.train_loop
    if isinstance(loop, EpochBasedTrainLoop):
        return -(-loop.max_iters * world // gpus)
    return loop.max_iters


def _peak(device: torch.device, precision: str, given: float | None) -> tuple[float, str]:
    if given:
        return given, 'given'
    known = sheet_peak(device_name(device), precision)
    if known:
        return known, 'data sheet'
    dtype = torch.float32 if precision == 'tf32' else getattr(torch, precision)
    values = [measured_peak(device, dtype) if is_main_process() else 0.0]
    broadcast_object_list(values)
    return values[0], 'a measured matrix product'


def _machine(device: torch.device, world: int, precision: str) -> dict[str, str]:
    threads = f', {torch.get_num_threads()} threads' if device.type == 'cpu' else ''
    return dict(
        date=date.today().isoformat(),
        type=device.type,
        device=f'{world} x {device_name(device)}{threads}'
        if world > 1 or not threads
        else device_name(device) + threads,
        torch=torch.__version__,
        precision=precision,
    )
