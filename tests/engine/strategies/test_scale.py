"""The demo's config on two processes, sharded or not, and in parts, is the demo's config on one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from bimm_mm.engine.hooks.checkpoint_hook import newest_checkpoint
from bimm_mm.engine.strategies.fsdp import SharedBlocksFSDPStrategy
from bimm_mm.utils.checkpoint import read_checkpoint

REPO = Path(__file__).parents[3]
ITERS, BATCH = 10, 8
# that go on from the parts of two
PROCESSES = 4 if os.environ.get('BIMM_LONG_TESTS') else 2
DEMO = REPO / 'configs/bimm/demo/joint_shapes.py'
# without warm-up, so that ten steps change much; with the demo's clipping of the gradient
CONFIG = f"""
_base_ = [{str(DEMO)!r}]
custom_imports = dict(imports=['bimm_mm', 'scale_parts'], allow_failed_imports=False)
masking = dict(_delete_=True, type='MaskBySample')
model = dict(ventral=dict(masking=masking), dorsal=dict(masking=masking))
train_dataloader = dict(batch_size={BATCH})
train_cfg = dict(max_iters={ITERS})
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = None
custom_hooks = [dict(type='WriteLosses')]
load_from = 'start.pth'
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """The config and the weights that all runs start from."""
    folder = tmp_path_factory.mktemp('scale')
    (folder / 'scale.py').write_text(CONFIG)
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile(DEMO).model)
    torch.save(dict(state_dict=model.state_dict()), folder / 'start.pth')
    return folder


def train(folder: Path, work_dir: str, *options: str, processes: int = 1, resume=()) -> list[float]:
    """Run tools/train.py or tools/dist_train.sh; the losses of its iterations."""
    env = os.environ | dict(
        PYTHONPATH=f'{REPO}{os.pathsep}{Path(__file__).parent}',
        PATH=f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}',
        VIRTUAL_ENV=str(Path(sys.executable).parents[1]),
        CUDA_VISIBLE_DEVICES='',
        OMP_NUM_THREADS='1',
    )
    command = [sys.executable, str(REPO / 'tools/train.py'), 'scale.py']
    if processes > 1:
        command = ['bash', str(REPO / 'tools/dist_train.sh'), 'scale.py', str(processes)]
    command += ['--work-dir', work_dir, *resume]
    command += ['--cfg-options', f'train_dataloader.batch_size={BATCH // processes}', *options]
    result = subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr[-4000:]
    return json.loads((folder / work_dir / 'losses.json').read_text())


@pytest.fixture(scope='module')
def one(folder) -> list[float]:
    """The losses of one process without any option."""
    losses = train(folder, 'one')
    assert len(losses) == ITERS
    assert losses[-1] < 0.6 * losses[0]  # so what a step does can be seen in the next losses
    return losses


def test_ddp_has_the_losses_of_one_process(folder, one):
    assert train(folder, 'ddp', processes=2) == pytest.approx(one, abs=1e-4)


FSDP_1, FSDP_2 = 'SharedBlocksFSDPStrategy', 'FullyShardStrategy'
HALF = ITERS // 2


def check_whole(folder: Path, checkpoint: Path) -> None:
    """That a checkpoint is that of a model without FSDP."""
    whole = torch.load(folder / 'start.pth')['state_dict']
    saved = read_checkpoint(checkpoint)['state_dict']
    assert {k: v.shape for k, v in saved.items()} == {k: v.shape for k, v in whole.items()}
    assert all(value.isfinite().all() for value in saved.values())


def test_fsdp_has_the_losses_of_one_process_and_goes_on_as_fsdp_2(folder, one):
    options = [f'strategy.type={FSDP_1}', f'train_cfg.max_iters={HALF}']
    first = train(folder, 'fsdp', *options, processes=2)
    assert first == pytest.approx(one[:HALF], abs=1e-4)
    check_whole(folder, folder / 'fsdp' / f'iter_{HALF}.pth')
    # with all blocks' activations computed anew
    options = [f'strategy.type={FSDP_2}', 'strategy.checkpoint_every=1']
    second = train(folder, 'fsdp', *options, processes=2, resume=['--resume'])
    assert second == pytest.approx(one[HALF:], abs=1e-4)


def test_fsdp_2_goes_on_without_fsdp_on_another_number_of_processes(folder, one):
    options = [f'strategy.type={FSDP_2}', f'train_cfg.max_iters={HALF}']
    first = train(folder, 'whole', *options, processes=2)
    assert first == pytest.approx(one[:HALF], abs=1e-4)
    check_whole(folder, folder / 'whole' / f'iter_{HALF}.pth')
    second = train(folder, 'whole', resume=['--resume'])
    assert second == pytest.approx(one[HALF:], abs=1e-4)


def test_fsdp_2_goes_on_from_parts_and_anything_reads_them(folder, one):
    options = [f'strategy.type={FSDP_2}', 'strategy.checkpoints=sharded']
    first = train(folder, 'parts', *options, f'train_cfg.max_iters={HALF}', processes=2)
    assert first == pytest.approx(one[:HALF], abs=1e-4)
    checkpoint = folder / 'parts' / f'iter_{HALF}.pth'
    assert len(list(checkpoint.glob('*.distcp'))) == 2
    check_whole(folder, checkpoint)
    assert newest_checkpoint(folder / 'parts') == checkpoint
    second = train(folder, 'parts', *options, processes=PROCESSES, resume=['--resume'])
    assert second == pytest.approx(one[HALF:], abs=1e-4)


def test_accumulation_and_checkpointing_have_the_losses_of_a_whole_batch(folder, one):
    losses = train(
        folder,
        'accumulated',
        f'train_dataloader.batch_size={BATCH // 2}',
        f'train_cfg.max_iters={2 * ITERS}',
        'optim_wrapper.accumulative_counts=2',
        'model.ventral.backbone.with_cp=True',
        'model.dorsal.backbone.with_cp=True',
    )
    pairs = [(a + b) / 2 for a, b in zip(losses[::2], losses[1::2], strict=True)]
    assert pairs == pytest.approx(one, abs=1e-4)


@pytest.mark.parametrize('asked, cast', [({}, False), (dict(cast_root_forward_inputs=True), True)])
def test_mixed_precision_leaves_the_input_as_it_is_unless_asked(tmp_path, asked, cast):
    """Targets are computed from it."""
    strategy = SharedBlocksFSDPStrategy(
        model_wrapper=dict(mixed_precision=dict(param_dtype='bfloat16') | asked),
        work_dir=str(tmp_path),
        experiment_name=tmp_path.name,
    )
    settings = strategy.model_wrapper['mixed_precision']
    assert settings == dict(param_dtype='bfloat16', cast_root_forward_inputs=cast)
