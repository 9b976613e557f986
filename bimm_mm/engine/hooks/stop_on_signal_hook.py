"""Save a checkpoint and exit on SIGTERM, SIGUSR1 or Ctrl-C."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from multiprocessing import forkserver, resource_tracker

import torch
from mmengine.dist import all_reduce, get_comm_device, get_dist_info
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import DataLoader

from ..late import LateValues
from .checkpoint_hook import WholeCheckpointHook

EXIT_STOPPED = 75  # sysexits.h: a temporary failure, try again; no other end of a run has it
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


@HOOKS.register_module()
class StopOnSignalHook(Hook):
    """On SIGTERM, SIGUSR1 or Ctrl-C, finish the iteration, save a checkpoint and exit with code 75.

    The first two are what schedulers send before they take a machine. The handler only takes a
    note; all processes agree after each iteration, so one that was told is enough. A second signal
    changes nothing, but a second Ctrl-C ends the process at once. A validation is finished first.
    The same command with ``--resume`` goes on.

    Where processes are joined by their accelerators, what they agree on is looked at one iteration
    later, so that nobody waits for it: one more iteration is finished then.

    Under the start method 'spawn', a library that starts threads when it is imported (OpenBLAS with
    more than one) can take a signal in a worker before it is blocked there.

    Schedulers send the signals to all processes. Those that were started by this one, to load data
    or to measure, take them from it only: it still needs what they make, and ends them by SIGTERM.

    Needs :class:`WholeCheckpointHook` as the checkpoint hook.
    """

    priority = 'LOWEST'  # the iteration's own checkpoint comes first

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._sent = LateValues()
        self._before: dict = {}
        self._forking = threading.local()

    def before_train(self, runner: Runner) -> None:
        """Install the signal handlers."""
        checkpoint_hook(runner)
        self._trainer = os.getpid()
        for loop in (runner.train_loop, runner.val_loop):
            if loop is not None:
                _shield_fork_server(loop.dataloader)
                init = loop.dataloader.worker_init_fn
                loop.dataloader.worker_init_fn = partial(_obey, self._trainer, init)
        if threading.current_thread() is threading.main_thread():  # Python allows it only there
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
            os.register_at_fork(
                before=self._before_fork,
                after_in_parent=self._after_fork_in_parent,
                after_in_child=self._after_fork_in_child,
            )

    def after_train(self, runner: Runner) -> None:
        """Restore the previous signal handlers."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def after_failure(self, runner: Runner) -> None:
        """Restore them after an error; who asked to stop may ask once more while it is done."""
        if not isinstance(sys.exc_info()[1], SystemExit):
            self.after_train(runner)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs=None
    ) -> None:
        """Save and exit if any process received a signal."""
        if get_dist_info()[1] == 1:
            self._stop(runner, runner.iter + 1, self.received or 0)
        elif get_comm_device().type == 'cpu':  # which waits for the slowest process anyway
            self._stop(runner, runner.iter + 1, self._ask_all('cpu'))
        else:
            told = [int(host) for host, _ in self._sent.arrived()]
            self._stop(runner, runner.iter + 1, max(told, default=0))
            self._sent.send(self._ask_all(get_comm_device()))

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Save and exit if any process received a signal."""
        if self._before:
            self._stop(runner, runner.iter, self._ask_all(get_comm_device()))

    def _note(self, number: int, frame: object) -> None:
        if number == signal.SIGINT == self.received:
            raise KeyboardInterrupt
        self.received = signal.Signals(number)

    def _before_fork(self) -> None:
        """Block the signals, so that one that reaches the new process at once waits for it."""
        if self._before:
            self._forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)

    def _after_fork_in_parent(self) -> None:
        mask = self._forking.__dict__.pop('mask', None)
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _after_fork_in_child(self) -> None:
        """Wait for the signals here: the run's handler, which came along, would only note them."""
        if self._before:
            _obey(self._trainer, None, 0)

    def _ask_all(self, device: torch.device | str) -> Tensor:
        """The signal that any process received, or 0; on the device, where nothing waits for it."""
        told = torch.full((), int(self.received or 0), device=device)
        all_reduce(told, 'max')
        return told

    def _stop(self, runner: Runner, iteration: int, told: Tensor | int) -> None:
        """Save and exit if there was a signal."""
        if not told:
            return
        path = checkpoint_hook(runner).save_now(runner, iteration)
        runner.logger.warning(
            f'Stopped by {signal.Signals(int(told)).name} after iteration {iteration}. '
            f'Checkpoint: {path}. The same command with --resume goes on from there.'
        )
        raise SystemExit(EXIT_STOPPED)


def checkpoint_hook(runner: Runner) -> WholeCheckpointHook:
    """Return the run's hook that can save at any moment.

    Raises:
        TypeError: The config has another checkpoint hook, or none.
    """
    for hook in runner.hooks:
        if isinstance(hook, WholeCheckpointHook):
            return hook
    raise TypeError(
        "StopOnSignalHook needs default_hooks.checkpoint.type='WholeCheckpointHook', to save "
        'between two regular checkpoints'
    )


def _obey(trainer: int, init: Callable | None, worker: int) -> None:
    """Make this process obey signals of the trainer and of its own parent only.

    The two differ under the start method 'forkserver', and in what a worker starts.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    threading.Thread(target=_wait_for, args=(trainer,), daemon=True).start()
    if init is not None:
        init(worker)


def _wait_for(trainer: int) -> None:
    while signal.sigwaitinfo(SIGNALS).si_pid not in (trainer, os.getppid()):
        pass  # the scheduler's; the trainer has it, too, and still needs its batch
    os._exit(0)


def _shield_fork_server(loader: DataLoader) -> None:
    """Start the fork server such that it does not receive the signals.

    Workers end with it, and it ends with the trainer.
    """
    context = loader.multiprocessing_context or multiprocessing
    if loader.num_workers and context.get_start_method() == 'forkserver':
        resource_tracker.ensure_running()  # which would unblock them
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
