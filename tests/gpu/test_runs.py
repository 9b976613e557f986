"""Whole runs on the device: resumed bit for bit, stopped by NaN; their checkpoints elsewhere."""

import os
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import MODELS
from mmengine.runner import Runner

from bimm_mm.engine.optimizers.amp import set_amp
from bimm_mm.engine.runner import build_runner
from bimm_mm.utils.checkpoint import read_checkpoint

pytestmark = pytest.mark.gpu
DEMO = Path(__file__).parents[2] / 'configs/bimm/demo/joint_shapes.py'
ITERATIONS, STOP = 8, 5


@pytest.fixture(autouse=True)
def deterministic(monkeypatch):
    """What cuBLAS needs to sum in one order; and what a run sets, set back."""
    monkeypatch.setenv(
        'CUBLAS_WORKSPACE_CONFIG', os.environ.get('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
    )
    yield
    torch.use_deterministic_algorithms(False)


class Stop(Hook):
    """Raises KeyboardInterrupt after some iterations."""

    priority = 'LOWEST'

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == STOP:
            raise KeyboardInterrupt


class Spoil(Hook):
    """Makes the pixels of one batch NaN."""

    priority = 'LOWEST'

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 == STOP:
            data_batch['inputs'] = [x.float() * float('nan') for x in data_batch['inputs']]


def config_of(folder, resume=False, amp=False) -> Config:
    cfg = Config.fromfile(DEMO)
    cfg.work_dir, cfg.resume, cfg.log_level = str(folder), resume, 'ERROR'
    cfg.experiment_name = f'gpu_{folder.parent.name}_{folder.name}_{resume}'
    cfg.train_cfg.max_iters = ITERATIONS
    cfg.train_dataloader.update(batch_size=4)
    cfg.param_scheduler = [dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=8)]
    cfg.default_hooks.checkpoint.update(interval=2, max_keep_ckpts=2)
    cfg.randomness = dict(seed=0, deterministic=True)
    if amp:
        set_amp(cfg, None)
    return cfg


def assert_same(first, second):
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_same(first[key], second[key])
    elif isinstance(first, list | tuple):
        for pair in zip(first, second, strict=True):
            assert_same(*pair)
    else:
        assert first == second


@pytest.mark.parametrize('amp', [False, True], ids=['float32', 'amp'])
def test_a_stopped_run_goes_on_bit_for_bit(tmp_path, amp):
    build_runner(config_of(tmp_path / 'whole', amp=amp)).train()
    runner = build_runner(config_of(tmp_path / 'stopped', amp=amp))
    runner.register_hook(Stop())
    with pytest.raises(KeyboardInterrupt):
        runner.train()
    build_runner(config_of(tmp_path / 'stopped', resume=True, amp=amp)).train()
    whole, stopped = (
        read_checkpoint(tmp_path / name / f'iter_{ITERATIONS}.pth') for name in ('whole', 'stopped')
    )
    for key in ('state_dict', 'optimizer', 'param_schedulers'):
        assert_same(whole[key], stopped[key])


def test_a_bad_step_is_skipped_on_the_device_and_no_checkpoint_has_it(tmp_path):
    runner = build_runner(config_of(tmp_path / 'run'))
    runner.register_hook(Spoil())
    with pytest.raises(FloatingPointError, match=f'iteration {STOP}: .* is nan'):
        runner.train()
    (stopped,) = (tmp_path / 'run').glob('stopped_iter_*.pth')
    state = read_checkpoint(stopped)
    assert state['meta']['iter'] == STOP - 1
    assert all(v.isfinite().all() for v in state['state_dict'].values())
    regular = read_checkpoint(tmp_path / 'run' / f'iter_{STOP - 1}.pth')
    for key in ('state_dict', 'optimizer', 'param_schedulers'):
        assert_same(state[key], regular[key])


def test_a_checkpoint_of_the_device_gives_the_same_features_on_a_cpu(tmp_path, device):
    runner: Runner = build_runner(config_of(tmp_path / 'run'))
    runner.train()
    model = runner.model.eval()
    twin = MODELS.build(Config.fromfile(DEMO).model).eval()
    twin.load_state_dict(read_checkpoint(tmp_path / 'run' / f'iter_{ITERATIONS}.pth')['state_dict'])
    x = torch.randn(2, 3, 8, 32, 32)
    with torch.no_grad():
        there = model(x.to(device), mode='tensor')['dorsal']
        here = twin(x, mode='tensor')['dorsal']
    for a, b in zip(there, here, strict=True):
        torch.testing.assert_close(a.cpu(), b, rtol=1e-3, atol=1e-3)
