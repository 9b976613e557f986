"""bimm preflight as a user runs it, on a model of one layer."""

import json
import os
import runpy
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from bimm_mm.preflight.clock import Times
from bimm_mm.preflight.page import iteration_rows
from bimm_mm.preflight.plan import Advised, Plan
from bimm_mm.preflight.report import Report

REPO = Path(__file__).parents[2]
PARTS = """
    import torch
    from mmengine.model import BaseModel
    from mmengine.registry import DATASETS, MODELS


    @DATASETS.register_module(force=True)
    class PreflightNumbers(torch.utils.data.Dataset):
        def __len__(self):
            return 64

        def __getitem__(self, index):
            return dict(inputs=torch.ones(16))


    @MODELS.register_module(force=True)
    class PreflightModel(BaseModel):
        def __init__(self, width=16):
            super().__init__()
            self.linear = torch.nn.Linear(width, 16)

        def forward(self, inputs, mode='tensor'):
            return dict(loss=self.linear(inputs).square().mean())
"""
CONFIG = """
    custom_imports = dict(imports=['bimm_mm', 'toy_parts'], allow_failed_imports=False)
    default_scope = 'mmengine'
    model = dict(type='PreflightModel')
    train_dataloader = dict(
        batch_size=4, num_workers=0, dataset=dict(type='PreflightNumbers'),
        sampler=dict(type='DefaultSampler', shuffle=True),
        collate_fn=dict(type='default_collate'),
    )
    optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01))
    train_cfg = dict(by_epoch=True, max_epochs=10)
    default_hooks = dict(checkpoint=dict(type='WholeCheckpointHook', interval=2, max_keep_ckpts=3))
"""


TOOL = REPO / 'tools/misc/preflight.py'
BRIEF = ('--iterations', '5', '--warmup', '2')


@pytest.fixture
def toy(tmp_path, monkeypatch) -> Path:
    """The working folder, with the parts and the config."""
    (tmp_path / 'toy_parts.py').write_text(textwrap.dedent(PARTS))
    (tmp_path / 'toy.py').write_text(textwrap.dedent(CONFIG))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, 'toy_parts', raising=False)
    return tmp_path


@pytest.fixture
def preflight(toy, monkeypatch):
    """The tool, in this process; called with arguments."""

    def call(*arguments: str) -> None:
        monkeypatch.setattr(sys, 'argv', ['bimm preflight', 'toy.py', *BRIEF, *arguments])
        runpy.run_path(str(TOOL), run_name='__main__')

    return call


def test_the_page_says_what_the_run_costs_and_nothing_else_is_left(toy, preflight, capsys):
    option = 'train_dataloader.num_workers=0'
    preflight('--cfg-options', option, '--price', '2', '--gpus', '4', '--try', 'batch')
    output = capsys.readouterr().out
    folder = toy / 'work_dirs/toy'
    assert sorted(p.name for p in folder.iterdir()) == ['preflight.json', 'preflight.md']
    figures = json.loads((folder / 'preflight.json').read_text())
    # 16 batches an epoch, 10 epochs, on four devices instead of one
    assert figures['plan']['iterations'] == 40
    today = figures['run']['today']
    assert today['cost'] == pytest.approx(2 * today['device_hours'])
    assert today['device_hours'] == pytest.approx(4 * today['hours'])
    assert figures['checkpoints']['number'] == 5 and figures['checkpoints']['kept'] == 3
    assert figures['checkpoints']['bytes'] > 16 * 16 * 4
    assert figures['times']['samples'] == 4
    assert figures['times']['flops'] == 2 * 2 * 4 * 16 * 16
    assert 0 < figures['mfu'] < 1
    assert figures['memory']['largest'] > 4
    for word in ('The whole run', 'waiting for data', 'MFU', 'workers needed', 'largest batch'):
        assert word in output and word in (folder / 'preflight.md').read_text()
    last = [line for line in output.splitlines() if line.startswith('bimm train toy.py')]
    assert len(last) == 1 and 'train_dataloader.num_workers=' in last[0]


def test_several_processes_measure_together(toy):
    env = os.environ | {
        'PYTHONPATH': os.pathsep.join(
            [str(REPO), str(toy), *filter(None, [os.environ.get('PYTHONPATH')])]
        ),
        'CUDA_VISIBLE_DEVICES': '',
        'OMP_NUM_THREADS': '1',
    }
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=2']
    command += [str(TOOL), 'toy.py', *BRIEF, '--try', '--launcher', 'pytorch']
    result = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    figures = json.loads((toy / 'work_dirs/toy/preflight.json').read_text())
    assert figures['world'] == figures['gpus'] == 2
    assert figures['plan']['iterations'] == 80  # 8 batches an epoch for each
    assert result.stdout.count('The whole run') == 1


def test_a_typo_is_told_before_anything_is_measured(toy, preflight):
    with pytest.raises(SystemExit) as stop:
        preflight('--cfg-options', 'model.widht=16', 'train_dataloader.num_worker=2')
    assert 'widht' in str(stop.value) and 'num_worker' in str(stop.value)
    assert not (toy / 'work_dirs').exists()


def test_a_run_shorter_than_what_is_to_be_timed_says_so(preflight):
    options = ('train_cfg.max_epochs=1', 'train_dataloader.batch_size=32')
    with pytest.raises(SystemExit, match='the run ends after 2 iterations'):
        preflight('--try', '--cfg-options', *options)


@pytest.mark.parametrize(
    'kind, small, said',
    [
        ('cuda', 0.09, '95% of the step: the host launches no faster.'),
        ('cuda', 0.02, '21% of the step'),
        ('cpu', 0.09, '95% of the step'),
        ('cuda', None, None),
    ],
)
def test_where_launching_is_the_limit_the_page_says_so(kind, small, said):
    machine = dict(date='', type=kind, device='', torch='', precision='bfloat16')
    parts = {'waiting for data': 0.0, 'hooks and log': 0.001}
    times = Times(parts=parts, iterations=[0.1], samples=16, flops=10**12)
    plan = Plan(100, 0.1, 0.0, 0.099)
    report = Report(
        machine, times, 0.095, small, 1e15, 'given', {}, None, None, plan, Advised(), 1, 1, None
    )
    rows = {name.strip(): note for name, _, note in iteration_rows(report)}
    if said is None:
        assert 'an eighth of the batch' not in rows
    else:
        told = rows['an eighth of the batch']
        assert told.startswith(said) and ('launches' in told) == ('launches' in said)
