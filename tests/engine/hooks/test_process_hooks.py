"""Hooks that set something for the process: garbage collection, threads, signals, workers."""

import gc
import multiprocessing
import os
import signal
from functools import partial
from types import SimpleNamespace

import mmengine
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS

from bimm_mm.engine import GarbageCollectionHook, MatmulPrecisionHook
from bimm_mm.engine.hooks import threads_hook, worker_processes_hook
from bimm_mm.engine.runner import CalmRunner, CheckedLoop


@pytest.fixture(autouse=True)
def as_before():
    precision = torch.get_float32_matmul_precision()
    yield
    gc.enable()
    torch.set_float32_matmul_precision(precision)


def test_garbage_is_collected_at_the_intervals_and_at_no_other_time(monkeypatch):
    collected, runner = [], SimpleNamespace(iter=0)
    hook = GarbageCollectionHook(interval=2, full_interval=6)
    hook.before_train(runner)
    assert not gc.isenabled()
    monkeypatch.setattr(gc, 'collect', lambda *args: collected.append((runner.iter + 1, *args)))
    for runner.iter in range(8):
        hook.after_train_iter(runner, runner.iter)
    assert collected == [(2, 1), (4, 1), (6,), (8, 1)]
    hook.after_train(runner)
    assert gc.isenabled()


def test_where_it_was_off_it_stays_off():
    gc.disable()
    hook = GarbageCollectionHook()
    hook.before_train(None)
    hook.after_train(None)
    assert not gc.isenabled()


def test_products_take_the_precision_that_is_asked_for():
    MatmulPrecisionHook('high').before_run(None)
    assert torch.get_float32_matmul_precision() == 'high'


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="precision='tf32' must be one of highest, high, medium"):
        MatmulPrecisionHook('tf32')
    with pytest.raises(ValueError, match='interval=0'):
        GarbageCollectionHook(interval=0)


@DATASETS.register_module()
class Numbers(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return dict(inputs=torch.zeros(1))


@MODELS.register_module()
class Fails(BaseModel):
    """Does something in its second step that ends the training."""

    def __init__(self, end):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.end, self.seen = end, []

    def forward(self, inputs, mode='tensor'):
        if self.seen:
            ENDS[self.end]()
        workers = len(multiprocessing.active_children())
        self.seen = [gc.isenabled(), torch.get_num_threads(), handlers(), workers]
        return dict(loss=self.weight.sum())


def fail():
    raise RuntimeError('out of memory')


def press_ctrl_c(times):
    for _ in range(times):
        os.kill(os.getpid(), signal.SIGINT)


ENDS = dict(error=fail, ctrl_c=partial(press_ctrl_c, 1), twice=partial(press_ctrl_c, 2))


def handlers():
    return [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]


@pytest.mark.parametrize(
    ('end', 'raised'),
    [('error', RuntimeError), ('ctrl_c', SystemExit), ('twice', KeyboardInterrupt)],
)
def test_a_process_whose_training_ends_early_is_as_before(tmp_path, monkeypatch, end, raised):
    for name in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads_hook, 'fastest', lambda block, most, rounds: 1)
    monkeypatch.setattr(threads_hook, '_picked', {})
    monkeypatch.setattr(worker_processes_hook, 'cores_and_processes', lambda: (2, 1))
    monkeypatch.setattr(mmengine.runner.runner, 'get_device', lambda: 'cpu')
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        before = handlers()
        runner = CalmRunner.from_cfg(
            dict(
                model=dict(type='Fails', end=end),
                work_dir=str(tmp_path),
                train_dataloader=dict(
                    batch_size=1,
                    dataset=dict(type='Numbers'),
                    sampler=dict(type='DefaultSampler', shuffle=True),
                    collate_fn=dict(type='pseudo_collate'),
                ),
                train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=1),
                optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
                default_hooks=dict(
                    logger=None,
                    timer=None,
                    checkpoint=dict(type='WholeCheckpointHook'),
                    workers=dict(type='WorkerProcessesHook'),
                    collection=dict(type='GarbageCollectionHook'),
                    threads=dict(type='ThreadsHook'),
                    stop=dict(type='StopOnSignalHook'),
                ),
                experiment_name=f'{tmp_path.name} {os.getpid()}',
            )
        )
        with pytest.raises(raised):
            runner.train()
        collecting, picked, during, workers = runner.model.seen
        assert not collecting and picked == 1 and during != before and workers
        assert gc.isenabled() and torch.get_num_threads() == 2
        # who asked to stop may ask once more, while the process ends
        assert handlers() == (during if end == 'ctrl_c' else before)
        for worker in multiprocessing.active_children():
            worker.join(60)
        assert not multiprocessing.active_children()
    finally:
        torch.set_num_threads(threads)


def test_one_hook_that_cannot_set_back_does_not_keep_the_others_from_it(tmp_path):
    class Broken(Hook):
        def after_failure(self, runner):
            raise OSError('gone')

    class Quiet(Hook):
        def after_failure(self, runner):
            calls.append(runner)

    calls, warned = [], []
    runner = SimpleNamespace(
        hooks=[Quiet(), Broken(), Quiet()], logger=SimpleNamespace(warning=warned.append)
    )
    CheckedLoop._set_back(runner)
    assert calls == [runner, runner] and warned == ['Broken could not set back: gone']
