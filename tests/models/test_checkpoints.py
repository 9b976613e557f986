"""An exported encoder is the encoder inside the pretrainer; files that are none are refused."""

import os
import pickle
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import bimm_mm
from bimm_mm.models import BimmViT, DualBranchPretrainer, SingleBranchPretrainer
from bimm_mm.models.checkpoints import (
    check_decoders,
    export_branch,
    read_checkpoint,
    save_whole,
)

REPO = Path(__file__).parents[2]
ARCH = dict(embed_dims=24, depth=3, num_heads=2)


def branch_config(video: bool) -> dict:
    backbone = dict(type='BimmViT', arch=ARCH, img_size=16, patch_size=4, stage_ends=(1, 2, 3))
    return dict(
        backbone=backbone | (dict(num_frames=4) if video else {}),
        masking=dict(type='TubeMasking' if video else 'RandomMasking', ratio=0.75),
        neck=dict(
            type='MultiStageDecoder',
            decoders=[dict(type='LinearDecoder', embed_dims=12, predict='visible')] * 3,
        ),
        targets=[
            dict(type='GaborTarget'),
            dict(type='EdgeContourTarget'),
            dict(type='MotionTarget' if video else 'PixelTarget'),
        ],
    )


@pytest.fixture
def joint(tmp_path):
    """A joint pretrainer with random weights everywhere, and its checkpoint."""
    torch.manual_seed(0)
    model = DualBranchPretrainer(ventral=branch_config(False), dorsal=branch_config(True)).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    path = tmp_path / 'joint.pth'
    torch.save(dict(state_dict=model.state_dict(), meta=dict(epoch=3, iter=12)), path)
    return model, path


@pytest.mark.parametrize('branch, frames', [('dorsal', 4), ('ventral', None)])
def test_exported_encoder_gives_the_features_of_the_branch(joint, tmp_path, branch, frames):
    model, path = joint
    out = tmp_path / 'encoder.pth'
    export_branch(path, out, branch)
    encoder = BimmViT(
        arch=ARCH,
        img_size=16,
        patch_size=4,
        num_frames=frames,
        stage_ends=(1, 2, 3),
        out_type='raw',
        out_indices='stages',
        init_cfg=dict(type='Pretrained', checkpoint=str(out)),
    ).eval()
    encoder.init_weights()
    x = torch.randn(2, 3, 4, 16, 16)
    x = x if frames else x[:, :, 0]
    wanted = getattr(model, branch).backbone(x)  # nothing masked
    for feature, value in zip(encoder(x), wanted, strict=True):
        torch.testing.assert_close(feature, value, rtol=0, atol=1e-5)
    assert wanted[0].std() > 0.1


@pytest.mark.parametrize('branch, frames', [('dorsal', 4), ('ventral', None)])
def test_it_loads_without_missing_or_unexpected_keys(joint, tmp_path, branch, frames):
    out = tmp_path / 'encoder.pth'
    count = export_branch(joint[1], out, branch)
    state = torch.load(out, weights_only=True)['state_dict']
    assert len(state) == count
    before = getattr(joint[0], branch).backbone.state_dict()
    assert state.keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in state.items())
    for kwargs in (
        dict(out_type='raw', out_indices='stages'),
        dict(out_type='cls_token'),
        dict(out_type='featmap', img_size=32),
    ):
        backbone = BimmViT(**dict(arch=ARCH, img_size=16, patch_size=4, num_frames=frames) | kwargs)
        missing, unexpected = backbone.load_state_dict(state, strict=False)
        assert not missing and not unexpected


def test_meta_and_size(joint, tmp_path):
    out = tmp_path / 'encoder.pth'
    export_branch(joint[1], out, 'ventral')
    assert torch.load(out)['meta'] == dict(
        bimm_mm_version=bimm_mm.__version__,
        stage='joint',
        branch='ventral',
        source='joint.pth',
        epoch=3,
        iter=12,
    )
    assert out.stat().st_size < 0.6 * joint[1].stat().st_size
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith('.')] == []
    assert stat.S_IMODE(out.stat().st_mode) == stat.S_IMODE(joint[1].stat().st_mode)


def test_a_branch_pretrained_alone(tmp_path):
    model = SingleBranchPretrainer(ventral=branch_config(False))
    torch.save(model.state_dict(), tmp_path / 'single.pth')  # a bare state_dict will do
    export_branch(tmp_path / 'single.pth', tmp_path / 'out.pth', 'ventral')
    assert torch.load(tmp_path / 'out.pth')['meta']['stage'] == 'ventral'
    with pytest.raises(ValueError, match=r"branch='dorsal': .*single.pth has only ventral"):
        export_branch(tmp_path / 'single.pth', tmp_path / 'no.pth', 'dorsal')
    assert not (tmp_path / 'no.pth').exists()


def test_a_checkpoint_of_a_wrapped_model(joint, tmp_path):
    model, _ = joint
    state = {f'module.{key}': value for key, value in model.state_dict().items()}
    torch.save(dict(state_dict=state), tmp_path / 'ddp.pth')
    assert read_checkpoint(tmp_path / 'ddp.pth')['state_dict'].keys() == model.state_dict().keys()


def test_no_pretraining_checkpoint(tmp_path):
    torch.save(dict(state_dict=BimmViT(arch=ARCH).state_dict()), tmp_path / 'plain.pth')
    with pytest.raises(ValueError, match='plain.pth is not a pretraining checkpoint.*cls_token'):
        export_branch(tmp_path / 'plain.pth', tmp_path / 'out.pth', 'ventral')


class Malicious:
    def __reduce__(self):
        return os.system, ('touch pwned',)


@pytest.mark.parametrize('legacy', [False, True])
def test_a_checkpoint_that_would_run_code_is_refused(tmp_path, monkeypatch, legacy):
    monkeypatch.chdir(tmp_path)
    content = dict(state_dict={}, evil=Malicious())
    torch.save(content, 'evil.pth', _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ValueError, match='evil.pth was not loaded: .*could run code.*system'):
        read_checkpoint('evil.pth')
    Path('plain.pkl').write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match='plain.pkl'):
        read_checkpoint('plain.pkl')
    assert not Path('pwned').exists()


def test_files_that_are_no_checkpoints(tmp_path, joint):
    with pytest.raises(FileNotFoundError, match=f'no checkpoint {tmp_path}/missing.pth'):
        read_checkpoint(tmp_path / 'missing.pth')
    whole = joint[1].read_bytes()
    contents = dict(text=b'hello world', empty=b'', truncated=whole[: len(whole) // 2])
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=re.escape(str(tmp_path / name))):
            read_checkpoint(tmp_path / name)
    torch.save(torch.zeros(3), tmp_path / 'tensor.pth')
    with pytest.raises(ValueError, match='holds a Tensor'):
        read_checkpoint(tmp_path / 'tensor.pth')


def test_what_cannot_be_written_leaves_nothing_and_changes_nothing(tmp_path, monkeypatch):
    with pytest.raises(OSError, match='cannot write .*no/out.pth'):
        save_whole({}, tmp_path / 'no' / 'out.pth')
    path = tmp_path / 'out.pth'
    path.write_text('before')

    def full_disk(content, file):
        file.write(b'half')
        raise RuntimeError('PytorchStreamWriter failed writing file: file write failed')

    monkeypatch.setattr(torch, 'save', full_disk)
    with pytest.raises(OSError, match='cannot write .*out.pth: Pytorch'):
        save_whole({}, path)
    assert [p.name for p in tmp_path.iterdir()] == ['out.pth']
    assert path.read_text() == 'before'


def test_the_tool(joint, tmp_path):
    tool = REPO / 'tools/model_converters/export_branch.py'
    env = os.environ | dict(PYTHONPATH=str(REPO), OMP_NUM_THREADS='1')

    def run(*arguments):
        command = [sys.executable, str(tool), *map(str, arguments)]
        return subprocess.run(command, env=env, capture_output=True, text=True)

    result = run(joint[1], tmp_path / 'out.pth', '--branch', 'dorsal')
    assert result.returncode == 0, result.stderr
    assert 'the dorsal encoder' in result.stdout
    assert torch.load(tmp_path / 'out.pth')['meta']['branch'] == 'dorsal'
    result = run(tmp_path / 'no.pth', tmp_path / 'out2.pth', '--branch', 'dorsal')
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == f'no checkpoint {tmp_path}/no.pth'


@pytest.mark.parametrize('content', [b'', b'no checkpoint', b'\x80\x02.', b'\x80\x02}q'])
def test_bytes_that_are_no_checkpoint_are_named(content, tmp_path):
    path = tmp_path / 'noise.pth'
    path.write_bytes(content)  # the third is a pickle that takes a value from an empty stack
    with pytest.raises(ValueError, match=r'noise\.pth'):
        read_checkpoint(path)


def test_decoders_of_other_sizes_are_refused_where_a_training_starts(joint):
    model, _ = joint
    state = dict(model.state_dict())
    check_decoders(model, state)
    key = next(key for key in state if 'neck.decoders.1.' in key and key.endswith('weight'))
    with pytest.raises(ValueError, match=f'other decoders: {key} is .1, 2. in it'):
        check_decoders(model, state | {key: torch.zeros(1, 2)})
    with pytest.raises(ValueError, match=f'{key} is missing in it'):
        check_decoders(model, {k: v for k, v in state.items() if k != key})
    with pytest.raises(ValueError, match='more.weight is .1,. in it and missing in the model'):
        check_decoders(model, state | {'dorsal.neck.decoders.0.more.weight': torch.zeros(1)})


def test_decoders_of_one_side_alone_are_left_aside(joint):
    model, _ = joint
    state = model.state_dict()
    check_decoders(model, {key: value for key, value in state.items() if 'neck' not in key})
    check_decoders(model.dorsal.backbone, state)
