"""Launchers on machines without an accelerator."""

import os
import socket

import pytest
import torch
from mmengine.config import Config

from bimm_mm.engine import runner


@pytest.fixture
def single_process(monkeypatch):
    """The variables with which a launcher would start one process, under the names of Open MPI."""
    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))
        port = sock.getsockname()[1]
    monkeypatch.setattr(runner, 'get_device', lambda: 'cpu')
    monkeypatch.setattr(os, 'environ', os.environ.copy())
    mpi = dict(zip(runner.LAUNCHER_VARIABLES['mpi'], '010', strict=True))
    for name, value in (mpi | {'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(port)}).items():
        monkeypatch.setenv(name, value)
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def test_gloo_is_started_and_ddp_gets_no_device_ids(single_process):
    cfg = Config(dict(launcher='mpi', find_unused_parameters=True))
    runner.init_cpu_launcher(cfg)
    assert torch.distributed.get_backend() == 'gloo'
    assert os.environ['WORLD_SIZE'] == '1' and os.environ['LOCAL_RANK'] == '0'
    assert cfg.model_wrapper_cfg == dict(
        broadcast_buffers=False,
        find_unused_parameters=True,
        device_ids=None,
    )


def test_the_wrapper_of_a_strategy_gets_no_device_ids(single_process):
    strategy = dict(type='DDPStrategy', model_wrapper=dict(static_graph=True))
    cfg = Config(dict(launcher='mpi', strategy=strategy))
    runner.init_cpu_launcher(cfg)
    assert cfg.strategy.model_wrapper == dict(static_graph=True, device_ids=None)
    assert 'model_wrapper_cfg' not in cfg


@pytest.mark.parametrize(('launcher', 'device'), [('none', 'cpu'), ('mpi', 'cuda')])
def test_nothing_happens_without_a_launcher_or_with_an_accelerator(
    single_process, monkeypatch, launcher, device
):
    monkeypatch.setattr(runner, 'get_device', lambda: device)
    cfg = Config(dict(launcher=launcher))
    runner.init_cpu_launcher(cfg)
    assert not torch.distributed.is_initialized()
    assert cfg.to_dict() == dict(launcher=launcher)


def test_launcher_errors_name_what_is_wrong(single_process):
    with pytest.raises(ValueError, match="launcher='torch'.*pytorch, slurm, mpi"):
        runner.init_cpu_launcher(Config(dict(launcher='torch')))
    with pytest.raises(KeyError, match='SLURM_PROCID is not set'):
        runner.init_cpu_launcher(Config(dict(launcher='slurm')))
