"""StopOnSignalHook and the processes that a run starts besides those that load data."""

import os
import signal
import time
from multiprocessing import get_context
from types import SimpleNamespace

import pytest

from bimm_mm.engine import StopOnSignalHook, WholeCheckpointHook


@pytest.fixture
def listening():
    hook = StopOnSignalHook()
    runner = SimpleNamespace(hooks=[WholeCheckpointHook()], train_loop=None, val_loop=None)
    hook.before_train(runner)
    yield hook
    hook.after_train(runner)


def test_a_pool_of_processes_can_be_ended(listening):
    """As mmaction2's AVAMetric does at the end of each validation."""
    with get_context('fork').Pool(2) as pool:
        assert pool.map(abs, [-1, 2, -3]) == [1, 2, 3]
        workers = list(pool._pool)
    deadline = time.monotonic() + 30
    while any(worker.is_alive() for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(worker.is_alive() for worker in workers)
    assert listening.received is None


def test_they_do_not_end_when_the_scheduler_tells_everybody(listening):
    worker = get_context('fork').Process(target=time.sleep, args=(60,))
    worker.start()
    sender = get_context('fork').Process(target=os.kill, args=(worker.pid, signal.SIGTERM))
    sender.start()
    sender.join()
    worker.join(1)
    assert worker.is_alive()
    worker.terminate()
    worker.join(30)
    assert worker.exitcode == 0


def test_the_run_takes_a_note_and_nothing_after_it_has_ended(listening):
    os.kill(os.getpid(), signal.SIGUSR1)
    time.sleep(0.01)
    assert listening.received == signal.SIGUSR1
    listening.after_train(None)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
