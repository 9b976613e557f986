"""Run a few iterations of a config as it is, but for what would take its place on the disk."""

import copy
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import all_reduce, barrier
from mmengine.runner import FlexibleRunner, Runner
from torch import tensor

from ..engine.hooks.checkpoint_hook import WholeCheckpointHook
from ..engine.runner import build_runner, without_initialization
from .clock import Clock, EnoughIterations, LastHook, Times


@dataclass(frozen=True)
class Checkpoints:
    """What checkpoints take.

    Attributes:
        bytes: Of one.
        seconds: To write one.
        kept: At most at one time; None for all.
        number: In the whole run.
    """

    bytes: int
    seconds: float
    kept: int | None
    number: int


def trial_config(cfg: Config, folder: str) -> Config:
    """Return a config of the same training, which writes into ``folder`` and validates nothing.

    Weights that the run starts from are not read: they may not be there yet, and cost no time.
    """
    cfg = without_initialization(cfg)
    cfg.update(work_dir=folder, resume=False, load_from=None, log_level='ERROR')
    cfg.experiment_name = f'preflight_{uuid.uuid4().hex[:8]}'
    cfg.update(val_cfg=None, val_dataloader=None, val_evaluator=None)
    cfg.update(test_cfg=None, test_dataloader=None, test_evaluator=None)
    for name in ('val_interval', 'val_begin'):
        cfg.train_cfg.pop(name, None)
    if cfg.get('visualizer'):  # no run shall appear on a server
        cfg.visualizer.vis_backends = [dict(type='LocalVisBackend')]
    hooks = cfg.get('default_hooks') or {}
    if hooks.get('checkpoint'):
        hooks.checkpoint.update(interval=-1, save_last=False)
        for name in ('save_best', 'rule', 'greater_keys', 'less_keys', 'out_dir'):
            hooks.checkpoint.pop(name, None)
    return cfg


def run_iterations(
    cfg: Config, warmup: int, iterations: int, tell: Callable[[], None]
) -> tuple[Runner | FlexibleRunner, Times]:
    """Train for some iterations, timed.

    Args:
        cfg: Of :func:`trial_config`.
        warmup: Iterations before the first that is timed.
        iterations: To time.
        tell: Called after each iteration.

    Returns:
        The runner, whose hooks have ended, and the times.

    Raises:
        RuntimeError: The whole run has fewer iterations.
    """
    runner = build_runner(cfg)
    clock = Clock(warmup, iterations, tell)
    runner.register_hook(clock)
    runner.register_hook(LastHook(clock))
    try:
        runner.train()
    except EnoughIterations:
        runner.call_hook('after_train')
        runner.call_hook('after_run')
    else:
        raise RuntimeError(
            f'the run ends after {runner.iter} iterations, before {warmup + iterations}: '
            'take fewer by --iterations and --warmup'
        )
    clock.remove(runner)
    return runner, clock.times


def measure_checkpoint(cfg: Config, runner: Runner | FlexibleRunner) -> Checkpoints | None:
    """Write a checkpoint as the run does; None where it has no hook that does it at any moment.

    Args:
        cfg: Of the whole run.
        runner: After some iterations, with a work dir on the disk of the run's.
    """
    hooks = [hook for hook in runner.hooks if isinstance(hook, WholeCheckpointHook)]
    if not hooks:
        return None
    barrier()
    start = time.perf_counter()
    path = Path(hooks[0].save_now(runner, runner.iter + 1))
    seconds = tensor(time.perf_counter() - start)
    all_reduce(seconds, 'max')
    files = [p for p in path.rglob('*') if p.is_file()] if path.is_dir() else [path]
    settings = copy.deepcopy(cfg.default_hooks.checkpoint)
    kept = settings.get('max_keep_ckpts', -1)
    interval = settings.get('interval', -1)
    loop = runner.train_loop
    total = runner.max_epochs if settings.get('by_epoch', True) else loop.max_iters
    number = total // interval if interval > 0 else 0
    return Checkpoints(
        sum(p.stat().st_size for p in files), float(seconds), kept if kept > 0 else None, number
    )
