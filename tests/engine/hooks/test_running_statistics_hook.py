"""BatchNorm's running statistics on three processes.

This file is also the program of the processes: ``python FILE RANK FOLDER``.
"""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.registry import HOOKS
from torch import nn

import bimm_mm  # noqa: F401

RUNTIME = Path(__file__).parents[3] / 'configs/_base_/runtime.py'


def build_model() -> nn.Module:
    """A probe as the linear recipes have it; the constant cannot be averaged without an error."""
    model = nn.Sequential(nn.BatchNorm1d(3, affine=False), nn.Linear(3, 2))
    model.register_buffer('constant', torch.rand(1000, generator=torch.Generator().manual_seed(0)))
    return model


def run(rank: int, folder: str) -> None:
    """One of three processes: three do not divide a sum without an error."""
    torch.set_num_threads(1)
    dist.init_process_group('gloo', f'file://{folder}/store', rank=rank, world_size=3)
    hook = HOOKS.build(Config.fromfile(RUNTIME).default_hooks.running_statistics)
    states = []
    for moment in ('after_train_epoch', 'before_val_epoch'):
        runner = SimpleNamespace(model=build_model())
        runner.model(torch.full((4, 3), float(rank)) + torch.arange(4)[:, None])
        hook.after_train_iter(runner, 0)
        states.append({key: value.clone() for key, value in runner.model.state_dict().items()})
        getattr(hook, moment)(runner)
        states.append({key: value.clone() for key, value in runner.model.state_dict().items()})
    torch.save(states, f'{folder}/{rank}.pth')
    dist.barrier()
    os._exit(0)


@pytest.fixture(scope='module')
def states(tmp_path_factory) -> list[list[dict]]:
    """By process: before and after the end of an epoch, before and after a validation begins."""
    folder = tmp_path_factory.mktemp('statistics')
    environment = os.environ | dict(OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='')
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, str(rank), str(folder)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(3)
    ]
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert all(process.returncode == 0 for process in processes), '\n'.join(errors)
    return [torch.load(folder / f'{rank}.pth') for rank in range(3)]


@pytest.mark.parametrize('before, after', [(0, 1), (2, 3)])
@pytest.mark.parametrize('name', ['0.running_mean', '0.running_var'])
def test_all_processes_get_the_mean_of_all(states, name, before, after):
    own = torch.stack([process[before][name] for process in states])
    if name == '0.running_mean':
        assert len(own.unique()) == 3
    for process in states:
        torch.testing.assert_close(process[after][name], own.mean(dim=0))
        assert torch.equal(process[after][name], states[0][after][name])


def test_constants_are_not_touched(states):
    assert all(torch.equal(p[3]['constant'], build_model().constant) for p in states)


if __name__ == '__main__':
    run(int(sys.argv[1]), sys.argv[2])
