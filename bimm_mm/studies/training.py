"""Time and train the stages of a study; training can be resumed."""

import copy
import gc
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner

from ..engine.hooks.threads_hook import fastest_threads
from ..engine.runner import CalmRunner
from ..utils.files import locked, write_text
from .needs import Need
from .plan import Stage, digest

ROUNDS, WARM_UP, TIMED = 5, 1, 3
LONG = 60  # seconds after which no further round of measuring begins
SAVES = 5  # checkpoints of a stage on the way, to resume from
POINTS = 30  # of the curves of a stage


def clock() -> float:
    """Return the seconds that count as cost.

    On a CPU, those that the process has computed, over all its threads: others who use the same
    machine then do not count, as they would by the clock on the wall. With an accelerator, the
    time on the wall when it has done its work.
    """
    if get_device() == 'cpu':
        return time.process_time()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


class StepTimer:
    """Time the training step of a config: forward, backward and update, on one batch in memory.

    Args:
        cfg: A pretraining config.
    """

    def __init__(self, cfg: Config) -> None:
        self.cfg = cfg
        loader = copy.deepcopy(cfg.train_dataloader)
        loader.update(num_workers=0, persistent_workers=False)
        self.batch = next(iter(Runner.build_dataloader(loader, seed=0)))

    def __call__(self) -> list[float]:
        """Seconds of some steps of a new model, after one that is not counted."""
        model = MODELS.build(self.cfg.model).to(get_device())
        optim_wrapper = build_optim_wrapper(model, self.cfg.optim_wrapper)
        marks = []
        with fastest_threads(model):
            for _ in range(WARM_UP + TIMED):
                marks.append(clock())
                model.train_step(self.batch, optim_wrapper)
            marks.append(clock())
        return [end - start for start, end in zip(marks, marks[1:], strict=False)][WARM_UP:]


def measure_in_turn(
    timers: Mapping[str, Callable[[], list[float]]], say: Callable[[str], None] = print
) -> dict[str, float]:
    """Measure the median seconds per step of several trainings in turn.

    What slows the machine down for a while then slows down all of them, not one. Where steps are
    long, there are fewer rounds.

    Args:
        timers: Functions that return the seconds of some steps, by name.
        say: Is told how far it is.
    """
    seconds: dict[str, list[float]] = {name: [] for name in timers}
    start = time.monotonic()
    for done in range(1, ROUNDS + 1):
        for name, timer in timers.items():
            seconds[name] += timer()
            gc.collect()
        passed = time.monotonic() - start
        if passed > LONG and done < ROUNDS:
            say(f'measured in {done} of {ROUNDS} rounds, as each takes {passed / done:.0f} s')
            break
    return {name: torch.tensor(values).median().item() for name, values in seconds.items()}


def train_stage(
    stage: Stage,
    steps: int,
    seed: int,
    parent: Path | None,
    folder: Path,
    needs: Sequence[Need] = (),
    say: Callable[[str], None] = print,
) -> tuple[Path, dict[str, float]]:
    """Train a stage; resume it if it was stopped, skip it if it is done.

    The schedule is stretched to the number of steps. What is trained has a folder named by its
    content, so that runs which have a stage in common train it once; a process waits for another
    on this machine that trains it.

    Args:
        stage: Config and overrides.
        steps: Iterations.
        seed: Of weights, masks and the order of the samples.
        parent: Checkpoint of the stage before.
        folder: For all stages of the study.
        needs: What tools made for the run; with others, it is another training.
        say: Is told if it has to wait.

    Returns:
        The checkpoint at the end, and the explained variance of each target, averaged over
        the last 50 iterations.
    """
    name = str(parent.parent.name) if parent else ''
    key = digest([stage.digest, steps, seed, name, *(need.description() for need in needs)])
    work_dir = folder / f'{stage.config.stem}-{key}'
    checkpoint, done = work_dir / 'last.pth', work_dir / 'done.json'
    if not done.is_file():
        with locked(work_dir, lambda: say(f'waiting for {work_dir.name}, which another trains')):
            if not done.is_file():
                explained = _train(stage, steps, seed, parent, work_dir)
                write_text(done, json.dumps(explained))
    return checkpoint, json.loads(done.read_text())


def _train(
    stage: Stage, steps: int, seed: int, parent: Path | None, work_dir: Path
) -> dict[str, float]:
    """Write ``last.pth``; returns the explained variance of each target."""
    cfg = copy.deepcopy(stage.cfg)
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    fit_schedule(cfg, steps)
    cfg.work_dir = str(work_dir)
    cfg.experiment_name = f'{work_dir.name}-{time.time_ns()}'
    cfg.randomness = dict(seed=seed)
    cfg.resume = (work_dir / 'last_checkpoint').is_file()
    cfg.log_level = 'WARNING'
    hooks = cfg.setdefault('default_hooks', {})
    hooks['logger'] = dict(type='LoggerHook', interval=max(steps // POINTS, 1))
    saving = hooks.setdefault('checkpoint', {})
    saving.setdefault('type', 'CheckpointHook')
    saving.update(by_epoch=False, interval=max(steps // SAVES, 1), max_keep_ckpts=1)
    if parent is not None:
        cfg.model['init_dorsal_from'] = str(parent)
    runner = CalmRunner.from_cfg(cfg)
    runner.train()
    if runner.iter < steps:
        raise SystemExit(f'stopped after {runner.iter} of {steps} steps of {work_dir.name}')
    runner.save_checkpoint(cfg.work_dir, 'last.pth', save_optimizer=False)
    for path in work_dir.glob('iter_*.pth'):
        path.unlink()
    return {
        key.removeprefix('train/explained_'): float(history.mean(50))
        for key, history in runner.message_hub.log_scalars.items()
        if key.startswith('train/explained_')
    }


def fit_schedule(cfg: Config, steps: int) -> None:
    """Set the number of iterations of a config, and stretch its learning rate schedule over them.

    A config that counts epochs is made to count iterations; its validation is left out.
    """
    length = cfg.train_cfg.get('max_iters') or cfg.train_cfg.max_epochs
    factor = steps / length
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=steps, val_interval=steps + 1)
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    cfg.log_processor = dict(cfg.get('log_processor') or {}, by_epoch=False)
    for scheduler in cfg.get('param_scheduler') or []:
        scheduler.by_epoch = False
        scheduler.pop('convert_to_iter_based', None)
        for key in ('begin', 'end', 'T_max'):
            if key in scheduler:
                scheduler[key] = max(round(scheduler[key] * factor), 0 if key == 'begin' else 1)
