"""StopOnSignalHook and the processes that a run starts besides those that load data."""

import logging
import os
import signal
import time
from multiprocessing import forkserver, get_context
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from bimm_mm.engine import StopOnSignalHook, WholeCheckpointHook
from bimm_mm.engine.hooks import stop_on_signal_hook


@pytest.fixture
def listening():
    hook = StopOnSignalHook()
    runner = SimpleNamespace(hooks=[WholeCheckpointHook()], train_loop=None, val_loop=None)
    hook.before_train(runner)
    yield hook
    hook.after_train(runner)


def test_the_first_ctrl_c_is_noted_and_the_second_ends_the_process(listening):
    os.kill(os.getpid(), signal.SIGINT)
    assert listening.received == signal.SIGINT
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_after_another_signal_does_not_end_it(listening):
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
    assert listening.received == signal.SIGINT


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


def test_a_process_that_is_ended_before_it_has_begun_ends():
    """A pool's second worker is, where the first did all the work: its end is then waited for."""
    slow = [True]
    os.register_at_fork(after_in_child=lambda: slow and time.sleep(0.5))
    hook = StopOnSignalHook()
    hook.before_train(
        SimpleNamespace(hooks=[WholeCheckpointHook()], train_loop=None, val_loop=None)
    )
    worker = get_context('fork').Process(target=time.sleep, args=(60,))
    worker.start()
    worker.terminate()
    worker.join(30)
    slow.clear()
    hook.after_train(None)
    ended = worker.exitcode
    worker.kill()
    assert ended == 0
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, []) & set(stop_on_signal_hook.SIGNALS)


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


@pytest.fixture(params=['fork', 'forkserver', 'spawn'])
def loading(request, monkeypatch):
    """A worker that loads data, as the hook's run starts it."""
    # libraries that start threads when they are imported, before the worker can block signals
    for name in ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS'):
        monkeypatch.setenv(name, '1')
    data = TensorDataset(torch.arange(4.0))
    loader = DataLoader(data, num_workers=1, multiprocessing_context=request.param)
    hook = StopOnSignalHook()
    loop = SimpleNamespace(dataloader=loader)
    hook.before_train(
        SimpleNamespace(hooks=[WholeCheckpointHook()], train_loop=loop, val_loop=None)
    )
    batches = iter(loader)
    next(batches)
    yield batches._workers[0]
    hook.after_train(None)


def send_as_the_scheduler(number, pid):
    sender = get_context('fork').Process(target=os.kill, args=(pid, number))
    sender.start()
    sender.join()


def test_a_worker_ends_when_the_trainer_says_so_however_it_was_started(loading):
    loading.terminate()
    loading.join(30)
    assert loading.exitcode == 0


def test_neither_a_worker_nor_who_forks_it_ends_when_the_scheduler_tells_everybody(loading):
    server = forkserver._forkserver._forkserver_pid
    for number in (signal.SIGTERM, signal.SIGUSR1):
        send_as_the_scheduler(number, loading.pid)
        if server is not None:
            send_as_the_scheduler(number, server)
    # workers look every 5 seconds whether who forked them is there
    loading.join(1 if server is None else 7)
    assert loading.is_alive()


def test_the_run_takes_a_note_and_nothing_after_it_has_ended(listening):
    os.kill(os.getpid(), signal.SIGUSR1)
    time.sleep(0.01)
    assert listening.received == signal.SIGUSR1
    listening.after_train(None)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_second_signal_does_not_end_a_process_that_has_saved_and_waits_for_others(
    listening, monkeypatch
):
    writer = SimpleNamespace(save_now=lambda runner, iteration: 'x')
    monkeypatch.setattr(stop_on_signal_hook, 'checkpoint_hook', lambda runner: writer)
    os.kill(os.getpid(), signal.SIGUSR1)
    with pytest.raises(SystemExit):
        listening.after_train_iter(
            SimpleNamespace(iter=0, logger=logging.getLogger('test_stop')), 0
        )
    for number in stop_on_signal_hook.SIGNALS:
        assert signal.getsignal(number) == listening._note


def test_processes_that_share_accelerators_stop_together_one_iteration_later(monkeypatch):
    """Each told by what all had received in the iteration before, which is the same for all."""
    module = stop_on_signal_hook
    monkeypatch.setattr(module, 'get_dist_info', lambda: (0, 2))
    monkeypatch.setattr(module, 'get_comm_device', lambda: torch.device('meta'))
    other = iter([0, signal.SIGTERM, signal.SIGTERM])

    def ask_all(self, device):  # this process is told nothing itself
        return torch.tensor(int(next(other)))

    monkeypatch.setattr(StopOnSignalHook, '_ask_all', ask_all)
    saved, logger = [], logging.getLogger('test_stop')
    writer = SimpleNamespace(save_now=lambda runner, iteration: saved.append(iteration) or 'x')
    monkeypatch.setattr(module, 'checkpoint_hook', lambda runner: writer)
    hook = StopOnSignalHook()
    for iteration in range(2):
        hook.after_train_iter(SimpleNamespace(iter=iteration, logger=logger), 0)
    with pytest.raises(SystemExit) as stop:
        hook.after_train_iter(SimpleNamespace(iter=2, logger=logger), 0)
    assert stop.value.code == module.EXIT_STOPPED and saved == [3]
