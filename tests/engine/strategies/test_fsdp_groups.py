"""Parameter groups of a sharded model are those of a whole one, value by value.

This file is also the program of the processes: ``python FILE RANK FOLDER``.
"""

import json
import os
import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import MODELS
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel

from bimm_mm.engine import FullyShardStrategy, SharedBlocksFSDPStrategy

DEMO = Path(__file__).parents[3] / 'configs/bimm/demo/joint_shapes.py'
BACKBONE = dict(
    type='BimmViT',
    arch=dict(embed_dims=24, depth=3, num_heads=2),
    img_size=16,
    patch_size=8,
    num_frames=4,
    stage_ends=(1, 2, 3),
)
RATES = dict(joint=1, classifier=0.5)


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = MODELS.build(BACKBONE)
        self.head = nn.Sequential(nn.LayerNorm(24), nn.Linear(24, 5))


def build_model(kind: str) -> nn.Module:
    torch.manual_seed(0)
    return MODELS.build(Config.fromfile(DEMO).model) if kind == 'joint' else Classifier()


def optim_wrapper(kind: str) -> dict:
    return dict(
        type='OptimWrapper',
        constructor='LayerDecayOptimWrapperConstructor',
        paramwise_cfg=dict(layer_decay_rate=RATES[kind]),
        optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.05),
    )


def values_of(model: nn.Module, wrapper) -> Counter:
    """How many values of each parameter this process has, with their rate and decay."""
    names = {
        parameter: name.replace('_fsdp_wrapped_module.', '').removeprefix('module.')
        for name, parameter in model.named_parameters()
    }
    return Counter(
        {
            (names[parameter], group['lr'], group['weight_decay']): local(parameter).numel()
            for group in wrapper.optimizer.param_groups
            for parameter in group['params']
        }
    )


def local(parameter: nn.Parameter) -> torch.Tensor:
    """This process's part of a parameter."""
    return parameter.to_local() if hasattr(parameter, 'to_local') else parameter


def run(rank: int, folder: str) -> None:
    """One of the two processes."""
    torch.set_num_threads(1)
    warnings.simplefilter('ignore')
    os.environ['LOCAL_RANK'] = str(rank)
    dist.init_process_group('gloo', f'file://{folder}/store', rank=rank, world_size=2)
    for kind in RATES:
        counts = []
        for flat in (False, True):
            strategy = SharedBlocksFSDPStrategy(
                model_wrapper=dict(use_orig_params=False) if flat else None,
                work_dir=folder,
                experiment_name=f'{kind}{flat}',
            )
            sharded = strategy._wrap_model(strategy.build_model(build_model(kind)))
            try:
                wrapper = strategy.build_optim_wrapper(optim_wrapper(kind), sharded)
                counts.append(list(map(list, values_of(sharded, wrapper).items())))
            except ValueError as error:
                counts.append(str(error))
        strategy = FullyShardStrategy(work_dir=folder, experiment_name=f'{kind}2')
        sharded = strategy._wrap_model(strategy.build_model(build_model(kind)))
        wrapper = strategy.build_optim_wrapper(optim_wrapper(kind), sharded)
        counts.append(list(map(list, values_of(sharded, wrapper).items())))
        Path(folder, f'{kind}{rank}.json').write_text(json.dumps(counts))
    dist.barrier()
    os._exit(0)


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """What the two processes found."""
    folder = tmp_path_factory.mktemp('groups')
    environment = os.environ | dict(OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='')
    command = [sys.executable, __file__]
    processes = [
        subprocess.Popen(
            [*command, str(rank), str(folder)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert all(process.returncode == 0 for process in processes), '\n'.join(errors)
    return folder


@pytest.mark.parametrize('version', [0, 2])  # places in what a process found: FSDP 1, FSDP 2
@pytest.mark.parametrize('kind', RATES)
def test_each_value_has_the_rate_and_the_decay_that_it_has_under_ddp(folder, kind, version):
    model = build_model(kind)
    whole = values_of(model, build_optim_wrapper(model, optim_wrapper(kind)))
    parts = [json.loads((folder / f'{kind}{rank}.json').read_text())[version] for rank in range(2)]
    sharded = sum((Counter({tuple(key): n for key, n in part}) for part in parts), Counter())
    assert sharded == whole
    assert len({key[1:] for key in whole}) == (2 if kind == 'joint' else 10)


@pytest.mark.parametrize('kind', RATES)
def test_flat_parameters_are_refused(folder, kind):
    for rank in range(2):
        error = json.loads((folder / f'{kind}{rank}.json').read_text())[1]
        assert 'set strategy.model_wrapper.use_orig_params=True' in error


class ScaledSteps(OptimWrapper):
    """Loss scaling as AmpOptimWrapper's, which needs a GPU."""

    def __init__(self, optimizer):
        super().__init__(optimizer)
        self.loss_scaler = torch.amp.GradScaler('cpu', init_scale=2.0**16)

    def state_dict(self):
        return super().state_dict() | dict(loss_scaler=self.loss_scaler.state_dict())


def test_the_loss_scale_and_the_logged_rate_go_on_after_a_checkpoint(tmp_path):
    dist.init_process_group('gloo', rank=0, world_size=1, store=dist.HashStore())
    try:
        strategies = []
        for name in ('saved', 'resumed'):
            strategy = SharedBlocksFSDPStrategy(work_dir=str(tmp_path), experiment_name=name)
            model = FullyShardedDataParallel(nn.Linear(3, 2), device_id=torch.device('cpu'))
            model.set_state_dict_type(
                model,
                strategy.state_dict_type,
                strategy.state_dict_config,
                strategy.optim_state_dict_config,
            )
            strategy.model = model
            strategy.optim_wrapper = ScaledSteps(torch.optim.AdamW(model.parameters(), lr=0.1))
            strategies.append(strategy)
        saved, resumed = strategies
        saved.optim_wrapper.update_params(saved.model(torch.ones(1, 3)).sum())
        scaler = saved.optim_wrapper.loss_scaler
        scaler.load_state_dict(scaler.state_dict() | dict(scale=1024.0))
        saved.optim_wrapper.base_param_settings = dict(lr=0.05)
        state = saved.optim_state_dict()
        resumed.load_optim_state_dict(state)
        assert resumed.optim_wrapper.loss_scaler.get_scale() == 1024
        assert resumed.optim_wrapper.base_param_settings['lr'] == 0.05
        again = resumed.optim_state_dict()
        assert state['state'].keys() == again['state'].keys()
        for name, entries in state['state'].items():
            assert all(torch.equal(again['state'][name][k], v) for k, v in entries.items())
    finally:
        dist.destroy_process_group()


if __name__ == '__main__':
    run(int(sys.argv[1]), sys.argv[2])
