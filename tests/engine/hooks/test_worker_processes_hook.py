import multiprocessing
import os

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement

from bimm_mm.engine.hooks import worker_processes_hook
from bimm_mm.engine.hooks.worker_processes_hook import WorkerProcessesHook
from bimm_mm.utils.workers import quota


@DATASETS.register_module()
class Makers(torch.utils.data.Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        return dict(inputs=torch.tensor([float(os.getpid())], dtype=torch.float64))


@MODELS.register_module()
class NotesMakers(BaseModel):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.made = {'loss': set(), 'predict': set()}

    def forward(self, inputs, mode='tensor'):
        self.made[mode] |= {int(value) for value in inputs}
        return dict(loss=self.weight.sum()) if mode == 'loss' else [BaseDataElement()]


def run(tmp_path, name, epochs=2, by_iteration=False, exact=True, stop=False, **settings):
    loader = dict(dataset=dict(type='Makers'), collate_fn=dict(type='pseudo_collate'), batch_size=1)
    train = dict(loader, sampler=dict(type='DefaultSampler', shuffle=True), **settings)
    loop = dict(type='EpochBasedTrainLoop', max_epochs=epochs)
    if by_iteration:
        loop = dict(type='IterBasedTrainLoop', max_iters=12, val_interval=100)
    hooks = dict(exact_resume=dict(type='ExactResumeHook')) if exact else {}
    if stop:
        hooks |= dict(
            checkpoint=dict(type='WholeCheckpointHook'), stop=dict(type='StopOnSignalHook')
        )
    runner = Runner.from_cfg(
        dict(
            model=dict(type='NotesMakers'),
            work_dir=str(tmp_path),
            train_dataloader=train,
            train_cfg=loop,
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
            val_dataloader=dict(loader, sampler=dict(type='DefaultSampler', shuffle=False)),
            val_cfg=dict(),
            val_evaluator=dict(type='DumpResults', out_file_path=str(tmp_path / 'results.pkl')),
            default_hooks=dict(logger=None, timer=None, checkpoint=None, runtime_info=None)
            | dict(workers=dict(type='WorkerProcessesHook', at_most=4))
            | hooks,
            randomness=dict(seed=0),
            experiment_name=f'{tmp_path.name} {name}',
        )
    )
    runner.train()
    return runner


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    monkeypatch.setattr(worker_processes_hook, 'cores_and_processes', lambda: (6, 2))


@pytest.mark.parametrize('exact', [True, False])
@pytest.mark.parametrize('by_iteration', [True, False])
def test_loaders_get_the_cores_of_their_process_unless_they_name_workers(
    tmp_path, by_iteration, exact
):
    runner = run(tmp_path, f'{by_iteration} {exact}', by_iteration=by_iteration, exact=exact)
    loader = runner.train_loop.dataloader
    assert (loader.num_workers, loader.persistent_workers) == (3, True)
    made = runner.model.made['loss']
    assert os.getpid() not in made
    # without ExactResumeHook, mmengine's loop by iterations starts the workers of a pass anew
    assert len(made) == 3


@pytest.mark.parametrize('exact', [True, False])
@pytest.mark.parametrize('by_iteration', [True, False])
def test_the_workers_end_with_the_run(tmp_path, by_iteration, exact):
    runner = run(tmp_path, f'{by_iteration} {exact}', by_iteration=by_iteration, exact=exact)
    makers = set.union(*runner.model.made.values())
    assert len(makers) >= 3
    assert makers.isdisjoint(child.pid for child in multiprocessing.active_children())


def test_a_number_that_is_named_stays(tmp_path):
    runner = run(tmp_path, 'none', num_workers=0)
    assert runner.train_loop.dataloader.num_workers == 0
    assert runner.model.made['loss'] == {os.getpid()}
    runner = run(tmp_path, 'one', num_workers=1)
    loader = runner.train_loop.dataloader
    assert (loader.num_workers, loader.persistent_workers) == (1, True)
    assert run(tmp_path, 'not', num_workers=1, persistent_workers=False)
    assert len(runner.model.made['predict']) == 3  # the validation's


def test_the_validation_gets_workers_that_obey_signals_to_stop(tmp_path):
    runner = run(tmp_path, 'stop', stop=True)
    assert runner.val_loop.dataloader.num_workers == 3
    assert os.getpid() not in runner.model.made['predict']


@pytest.mark.parametrize(
    ('cores', 'processes', 'share'), [(16, 8, 2), (64, 1, 4), (2, 8, 1), (7, 2, 3)]
)
def test_the_share_is_limited(monkeypatch, cores, processes, share):
    monkeypatch.setattr(worker_processes_hook, 'cores_and_processes', lambda: (cores, processes))
    assert WorkerProcessesHook(at_most=4)._share() == share


def test_a_container_has_the_cores_of_its_quota(tmp_path):
    for text, cores in (('250000 100000\n', 3), ('50000 100000\n', 1)):
        (tmp_path / 'cpu.max').write_text(text)
        assert quota(tmp_path / 'cpu.max') == cores
    (tmp_path / 'cpu.max').write_text('max 100000\n')
    assert quota(tmp_path / 'cpu.max') == quota(tmp_path / 'nothing') > 10**6


def test_the_limit_is_checked():
    with pytest.raises(ValueError, match='at_most=0 must be at least 1'):
        WorkerProcessesHook(at_most=0)
