"""What a preflight measures: parts of iterations, memory of steps, the loader alone."""

import time
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from torch import nn

from bimm_mm.preflight.clock import Clock, EnoughIterations, LastHook
from bimm_mm.preflight.loading import measure_loader
from bimm_mm.preflight.steps import BareSteps, batch_size_of, memory_of, resize_batch
from bimm_mm.preflight.training import trial_config
from bimm_mm.preflight.trials import Trials, precision_of

LOADING, FORWARD, LOGGING = 0.02, 0.03, 0.01


@DATASETS.register_module()
class SlowNumbers(torch.utils.data.Dataset):
    def __len__(self):
        return 12

    def __getitem__(self, index):
        time.sleep(LOADING / 2)
        return dict(inputs=torch.full((8,), float(index)))


class SlowModel(BaseModel):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 16)

    def forward(self, inputs, mode='tensor'):
        time.sleep(FORWARD)
        return dict(loss=self.linear(inputs).square().mean())


LOADER = dict(
    batch_size=2,
    num_workers=0,
    dataset=dict(type='SlowNumbers'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
)


def make_runner(folder, **settings) -> Runner:
    return Runner(
        SlowModel(),
        str(folder),
        train_dataloader=LOADER,
        train_cfg=dict(by_epoch=True, max_epochs=9),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        experiment_name=folder.name,
        **settings,
    )


def test_parts_of_an_iteration_are_told_apart_and_add_up(tmp_path, monkeypatch):
    runner = make_runner(tmp_path)
    clock = Clock(warmup=2, iterations=5)
    runner.register_hook(clock)
    runner.register_hook(LastHook(clock))
    update = runner.message_hub.update_scalar
    monkeypatch.setattr(
        runner.message_hub, 'update_scalar', lambda *a, **k: [time.sleep(LOGGING), update(*a, **k)]
    )
    with pytest.raises(EnoughIterations):
        runner.train()
    times = clock.times
    assert len(times.iterations) == 5 and runner.iter + 1 == 7
    assert sum(times.parts.values()) == pytest.approx(times.mean)
    assert times.parts['waiting for data'] >= LOADING
    assert times.parts['forward'] >= FORWARD
    assert times.parts['hooks and log'] >= LOGGING
    assert all(seconds > 0 for seconds in times.parts.values())
    assert times.samples == 2
    assert times.flops == 2 * 2 * 2 * 8 * 16  # no gradient of the input

    clock.remove(runner)
    runner.model.train_step(times.batch, runner.optim_wrapper)
    assert len(times.iterations) == 5 and 'step' not in vars(runner.optim_wrapper)


def test_the_loader_is_timed_alone_after_its_queue_is_used_up():
    rate = measure_loader(ConfigDict(LOADER), seed=0, batches=8)  # more than an epoch
    assert 0 < rate.batches <= 1 / LOADING
    assert rate.workers == 0 and rate.cores >= 1


def test_a_batch_takes_another_size_whatever_it_is_made_of():
    batch = dict(
        inputs=[torch.tensor(0), torch.tensor(1), torch.tensor(2)],
        label=torch.tensor([0, 1, 2]),
        name='x',
    )
    larger, smaller = resize_batch(batch, 5), resize_batch(batch, 2)
    assert torch.stack(larger['inputs']).tolist() == larger['label'].tolist() == [0, 1, 2, 0, 1]
    assert torch.stack(smaller['inputs']).tolist() == smaller['label'].tolist() == [0, 1]
    assert larger['name'] == 'x' and batch_size_of(larger) == 5


def test_memory_on_a_cpu_is_what_autograd_keeps_and_the_weights():
    class Squares(BaseModel):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(10))

        def forward(self, inputs, mode='tensor'):
            return dict(loss=(inputs * self.weight).exp().sum())

    model = Squares()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    steps = BareSteps(model, OptimWrapper(optimizer), dict(inputs=torch.zeros(4, 10)))
    steps.take(steps.batch)
    fixed, each, how = memory_of(steps)
    assert how == 'counted'
    assert each == 2 * 10 * 4  # the input and the result of exp, (B, 10) float32 each
    assert fixed == 3 * 10 * 4  # weight, gradient, momentum


def test_settings_that_make_the_step_faster_are_taken_and_set_back(monkeypatch):
    cfg = ConfigDict(optim_wrapper=dict(type='OptimWrapper'))
    seconds = iter([1.0, 0.5, 0.5, 0.49])
    steps = SimpleNamespace(
        device=torch.device('cpu'),
        dtype=None,
        seconds=lambda: next(seconds),
        uncompile_blocks=lambda: None,
    )
    monkeypatch.setattr('bimm_mm.preflight.trials.cpu_has_bfloat16', lambda: True)
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 2)
    trials = Trials(cfg, steps)
    trials.run(('amp', 'tf32', 'threads'))
    (amp,) = trials.advice  # one thread was hardly faster; there is no TF32 on a CPU
    assert amp.flags == ('--amp',) and amp.step == 0.5
    assert len(trials.tried) == 2 and '0.98' in trials.tried[1]
    assert steps.dtype is None


@pytest.mark.parametrize(
    ('wrapper', 'precision'),
    [
        (dict(type='OptimWrapper'), 'float32'),
        (dict(type='AmpOptimWrapper', dtype='bfloat16'), 'bfloat16'),
        (dict(type='AmpOptimWrapper', dtype='float16'), 'float16'),
        (dict(type='CpuAmpOptimWrapper', dtype='bfloat16'), 'bfloat16'),
    ],
)
def test_the_precision_of_a_run_is_that_of_its_wrapper(wrapper, precision):
    assert precision_of(ConfigDict(optim_wrapper=wrapper)) == precision


def test_what_the_config_does_already_is_not_tried(monkeypatch):
    hooks = dict(threads=dict(type='ThreadsHook'), compile=dict(type='CompileHook'), none=None)
    wrapper = dict(type='AmpOptimWrapper', dtype='bfloat16')
    cfg = ConfigDict(optim_wrapper=wrapper, default_hooks=hooks)
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 2)
    steps = SimpleNamespace(
        device=torch.device('cpu'),
        dtype=None,
        seconds=lambda: pytest.fail('took a step'),
        compile_blocks=lambda: pytest.fail('compiled'),
        uncompile_blocks=lambda: None,
    )
    trials = Trials(cfg, steps)
    trials.run(('amp', 'tf32', 'compile', 'threads'))
    assert not trials.advice and not trials.tried


def test_a_trial_writes_to_no_server_reads_no_weights_and_validates_nothing():
    cfg = Config(
        dict(
            model=dict(type='X', init_dorsal_from='not_there_yet.pth'),
            train_cfg=dict(by_epoch=True, max_epochs=9, val_interval=1),
            val_dataloader=dict(),
            val_cfg=dict(),
            val_evaluator=dict(),
            visualizer=dict(type='Visualizer', vis_backends=[dict(type='WandbVisBackend')]),
            default_hooks=dict(
                checkpoint=dict(type='WholeCheckpointHook', interval=5, out_dir='s', save_best='a')
            ),
            work_dir='real',
            resume=True,
        )
    )
    trial = trial_config(cfg, 'folder')
    assert trial.work_dir == 'folder' and not trial.resume
    assert trial.model.init_dorsal_from is None and trial.val_dataloader is None
    assert trial.visualizer.vis_backends == [dict(type='LocalVisBackend')]
    hook = dict(type='WholeCheckpointHook', interval=-1, save_last=False)
    assert trial.default_hooks.checkpoint == hook
    assert cfg.work_dir == 'real' and cfg.default_hooks.checkpoint.interval == 5
    assert trial.train_cfg == dict(by_epoch=True, max_epochs=9)
