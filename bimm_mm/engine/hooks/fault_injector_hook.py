"""Faults at random moments, to try out how a cluster and a run stand them."""

import errno
import json
import os
import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from mmengine.dist import get_dist_info
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ...utils import files

KINDS = ('exception', 'kill', 'hang', 'slow', 'disk_full')
REPORT = 'faults.jsonl'


class InjectedFault(RuntimeError):
    """Not an error of the run: it was asked for."""


@HOOKS.register_module()
class FaultInjectorHook(Hook):
    """Let processes fail at seeded iterations, each of them once, also after restarts.

    For trials on your own machines, never by default::

        --cfg-options default_hooks.faults.type=FaultInjectorHook default_hooks.faults.every=200

    Kinds of faults: 'exception' raises an error; 'kill' ends the process by SIGKILL; 'hang' never
    comes back; 'slow' takes ``seconds`` more; 'disk_full' lets the next checkpoint's writing fail,
    in the first process. Iteration, process and kind follow from ``seed``. Before a fault strikes
    it is noted in ``faults.jsonl`` in the work dir, as {"iteration", "process", "kind", "time"};
    what is noted does not strike again when the iteration is run again.

    Args:
        kinds: Those that may happen.
        every: Iterations from one fault to the next, on average.
        seed: Of all that is random.
        max_faults: How many strike at most, over all restarts; any number when left out.
        seconds: That a slow process takes more.

    Raises:
        ValueError: An argument is out of range, or a kind is unknown.
    """

    priority = 'VERY_LOW'

    def __init__(
        self,
        kinds: Sequence[str] = ('exception', 'kill', 'hang'),
        every: float = 1000,
        seed: int = 0,
        max_faults: int | None = None,
        seconds: float = 5.0,
    ) -> None:
        unknown = sorted(set(kinds) - set(KINDS))
        if unknown or not kinds:
            raise ValueError(f'kinds={tuple(kinds)} must be some of {", ".join(KINDS)}')
        if every < 1 or seconds <= 0:
            raise ValueError(f'every={every} must be at least 1, seconds={seconds} positive')
        self.kinds, self.every, self.seed = tuple(kinds), every, seed
        self.max_faults, self.seconds = max_faults, seconds

    def before_train(self, runner: Runner) -> None:
        """Read which faults have struck."""
        self._report = Path(runner.work_dir) / REPORT
        self._struck = set()
        if self._report.is_file():
            lines = self._report.read_text().splitlines()
            self._struck = {json.loads(line)['iteration'] for line in lines}
        runner.logger.warning(f'Faults are injected, {len(self._struck)} so far: {self._report}')

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Strike before the step."""
        self._strike(runner.iter, before=True)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs=None
    ) -> None:
        """Strike after the step."""
        self._strike(runner.iter, before=False)

    def fault_at(self, iteration: int, processes: int) -> tuple[str, int, bool] | None:
        """Return kind, process, and whether it is before the step; None if nothing happens."""
        rng = random.Random(f'{self.seed} {iteration}')
        if rng.random() >= 1 / self.every:
            return None
        kind, rank, before = rng.choice(self.kinds), rng.randrange(processes), rng.random() < 0.5
        return kind, 0 if kind == 'disk_full' else rank, before

    def _strike(self, iteration: int, before: bool) -> None:
        rank, processes = get_dist_info()
        fault = self.fault_at(iteration, processes)
        if fault is None or iteration in self._struck or fault[2] != before:
            return
        if self.max_faults is not None and len(self._struck) >= self.max_faults:
            return
        self._struck.add(iteration)
        kind, victim, _ = fault
        if victim == rank:
            self._note(iteration, rank, kind)
            self._do(kind, iteration)

    def _note(self, iteration: int, rank: int, kind: str) -> None:
        entry = dict(iteration=iteration, process=rank, kind=kind, time=time.time())
        with open(self._report, 'a') as file:
            file.write(json.dumps(entry) + '\n')
            file.flush()
            os.fsync(file.fileno())

    def _do(self, kind: str, iteration: int) -> None:
        if kind == 'exception':
            raise InjectedFault(f'iteration {iteration + 1}: asked for by FaultInjectorHook')
        if kind == 'kill':
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == 'slow':
            time.sleep(self.seconds)
        if kind == 'disk_full':
            fill_disk()
        while kind == 'hang':
            time.sleep(1)


def fill_disk() -> None:
    """Let the next file that is written whole fail as on a full disk."""
    sync = files._sync

    def fail(path: Path) -> None:
        files._sync = sync
        raise OSError(errno.ENOSPC, 'No space left on device (injected)')

    files._sync = fail
