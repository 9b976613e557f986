"""Notice processes of a distributed run that hang or are gone."""

import faulthandler
import sys
import time
from pathlib import Path

from mmengine.dist import get_dist_info, is_distributed
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..watch import Watch, open_store

WARM_UP = 3  # iterations after a start that may take long: compilation, first files
PATIENCE = 10  # times the mean duration of an iteration that one may take


@HOOKS.register_module()
class PeerWatchHook(Hook):
    """End all processes of a distributed run when one of them hangs or is gone.

    Otherwise the others wait for it in a collective call, for as long as the process group allows
    (an hour in the recipes). Each process has a thread that tells every few seconds that it lives,
    and how far it is. All processes end with exit code 76 and say why, with the stack of the one
    that is behind; ``tools/dist_train.sh --max-restarts`` goes on from there. Does nothing in a run
    of one process.

    Args:
        timeout: Seconds that an iteration may take, or 10 times as long as they do on average,
            if that is more; and seconds without a sign of life after which a process is gone.
        data_timeout: Seconds that a process may wait for its data. A decoder that hangs is
            given up after 60 s, twice at most for a sample.
        other_timeout: Seconds that may pass without an iteration in what comes seldom: the
            first iterations, a step of a validation, writing a checkpoint.
        every: Seconds between two signs of life.

    Raises:
        ValueError: An argument is not positive, or ``every`` is not well below ``timeout``.
    """

    priority = 'HIGHEST'  # what other hooks do before an iteration belongs to it

    def __init__(
        self,
        timeout: float = 45,
        data_timeout: float = 180,
        other_timeout: float = 1800,
        every: float = 2,
    ) -> None:
        if min(timeout, data_timeout, other_timeout, every) <= 0 or 3 * every > timeout:
            raise ValueError(
                f'timeout={timeout}, data_timeout={data_timeout}, other_timeout={other_timeout} '
                f'and every={every} must be positive, and every at most a third of timeout'
            )
        self.timeout, self.data_timeout = timeout, data_timeout
        self.other_timeout, self.every = other_timeout, every
        self._watch: Watch | None = None
        self._first, self._began = 0, time.monotonic()
        self._duration = 0.0  # of an iteration, a running mean

    def before_run(self, runner: Runner) -> None:
        """Register what notes the end of an iteration after all other hooks."""
        runner.register_hook(_IterationEnd(self), priority='LOWEST')

    def before_train(self, runner: Runner) -> None:
        """Start the thread."""
        if not is_distributed():
            return
        if not faulthandler.is_enabled():  # for crashes
            faulthandler.enable(sys.__stderr__)
        rank, processes = get_dist_info()
        store = open_store(self.timeout / 2)
        folder = Path(runner.work_dir)
        self._watch = Watch(store, rank, processes, self.timeout, self.every, folder)
        self._first, self._duration = runner.iter, 0.0
        self._mark(runner.iter, 0, 'before the first batch', self.other_timeout)
        self._watch.start()

    def after_train(self, runner: Runner) -> None:
        """Stop the thread."""
        if self._watch is not None:
            self._watch.stop()
            self._watch = None

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Note that the batch is there."""
        self._began = time.monotonic()
        limit = max(self.timeout, PATIENCE * self._duration)
        if runner.iter < self._first + WARM_UP:
            limit = self.other_timeout
        self._mark(runner.iter, 1, 'in its step', limit)

    def note_end(self, runner: Runner) -> None:
        """Note that the iteration is done."""
        if runner.iter >= self._first + WARM_UP:
            took = time.monotonic() - self._began
            self._duration += 0.1 * (took - self._duration)
        limit = self.data_timeout
        if runner.iter < self._first + WARM_UP:
            limit = self.other_timeout
        self._mark(runner.iter + 1, 0, 'waiting for data', limit)

    def before_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Note that the validation goes on."""
        self._mark(runner.iter, 0, f'in step {batch_idx} of a validation', self.other_timeout)

    def before_val(self, runner: Runner) -> None:
        """Note that a validation begins."""
        self._mark(runner.iter, 0, 'before a validation', self.other_timeout)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Note that a checkpoint is made."""
        self._mark(runner.iter, 1, 'saving a checkpoint', self.other_timeout)

    def _mark(self, *place) -> None:
        if self._watch is not None:
            self._watch.mark(*place)


class _IterationEnd(Hook):
    """Tells a watch hook of the end of iterations, with a priority of its own."""

    def __init__(self, watch: PeerWatchHook) -> None:
        self.watch = watch

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs=None
    ) -> None:
        self.watch.note_end(runner)
