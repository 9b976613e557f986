"""A joint checkpoint holds shared blocks once, and says where it comes from."""

import re

import mmengine
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.runner import Runner

import bimm_mm
from bimm_mm.engine.hooks import checkpoint_contents_hook as checkpoint_contents
from bimm_mm.engine.hooks.checkpoint_contents_hook import CheckpointContentsHook, tie_shared_blocks
from bimm_mm.models import DualBranchPretrainer
from bimm_mm.models.checkpoints import export_branch, read_checkpoint

ARCH = dict(embed_dims=48, depth=3, num_heads=4)


def branch(video: bool) -> dict:
    backbone = dict(type='BimmViT', arch=ARCH, img_size=16, patch_size=4, stage_ends=(1, 2, 3))
    return dict(
        backbone=backbone | (dict(num_frames=4) if video else {}),
        masking=dict(type='TubeMasking' if video else 'RandomMasking', ratio=0.5),
        neck=dict(
            type='MultiStageDecoder',
            decoders=[dict(type='LinearDecoder', embed_dims=8, predict='visible')] * 3,
        ),
        targets=[
            dict(type='GaborTarget'),
            dict(type='EdgeContourTarget'),
            dict(type='MotionTarget' if video else 'PixelTarget'),
        ],
    )


MODEL = dict(type='DualBranchPretrainer', ventral=branch(False), dorsal=branch(True))


class Clips(torch.utils.data.Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return dict(inputs=torch.full((3, 4, 16, 16), index, dtype=torch.uint8))


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
    """The checkpoint of one step, and the model."""
    folder = tmp_path_factory.mktemp('run')
    config = dict(
        model=MODEL,
        work_dir=str(folder),
        train_dataloader=dict(
            batch_size=2,
            dataset=Clips(),
            sampler=dict(type='DefaultSampler'),
            collate_fn=pseudo_collate,
        ),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=1e-4)),
        custom_hooks=[dict(type='CheckpointContentsHook')],
        experiment_name=re.sub(r'\W', '_', str(folder)),
    )
    runner = Runner(**config, cfg=mmengine.Config(dict(model=MODEL)))
    runner.train()
    return folder / 'epoch_1.pth', runner.model


def test_metadata(saved):
    meta = read_checkpoint(saved[0])['meta']
    assert meta['bimm_mm_version'] == bimm_mm.__version__
    assert (meta['stage'], meta['share'], meta['num_shared']) == ('joint', 'partial', 2)
    assert "type='DualBranchPretrainer'" in meta['cfg']
    assert meta['versions']['mmengine'] == mmengine.__version__
    assert meta['versions']['torch'] == torch.__version__.split('+')[0]
    assert meta['backbones']['dorsal'] == branch(True)['backbone']
    assert meta['epoch'] == 1


def test_export_hands_the_metadata_on(saved, tmp_path):
    export_branch(saved[0], tmp_path / 'encoder.pth', 'dorsal')
    meta = torch.load(tmp_path / 'encoder.pth')['meta']
    assert meta['backbones'] == dict(dorsal=branch(True)['backbone'])
    assert (meta['stage'], meta['epoch'], meta['branch']) == ('joint', 1, 'dorsal')


def copied(model) -> dict:
    """What mmengine makes of a state dict on an accelerator."""
    return {key: value.clone() for key, value in model.state_dict().items()}


def test_shared_blocks_are_stored_once_and_load_under_both_names(saved, tmp_path):
    model = saved[1]
    state = copied(model)
    torch.save(state, tmp_path / 'twice.pth')
    tie_shared_blocks(state, model.num_shared)
    torch.save(state, tmp_path / 'once.pth')
    shared = sum(v.nbytes for block in model.dorsal.backbone.blocks[:2] for v in block.parameters())
    less = (tmp_path / 'twice.pth').stat().st_size - (tmp_path / 'once.pth').stat().st_size
    assert shared <= less < 1.1 * shared

    fresh = DualBranchPretrainer(branch(False), branch(True))
    fresh.load_state_dict(torch.load(tmp_path / 'once.pth'))
    for key, value in fresh.state_dict().items():
        assert value.equal(model.state_dict()[key])
    unshared = DualBranchPretrainer(branch(False), branch(True), share='none')
    unshared.load_state_dict(torch.load(tmp_path / 'once.pth'))


def test_the_rest_and_differing_tensors_are_left_alone(saved, monkeypatch):
    said = []
    monkeypatch.setattr(checkpoint_contents, 'print_log', lambda text, *_, **__: said.append(text))
    model = saved[1]
    state = {f'module.{key}': value for key, value in copied(model).items()}
    one = 'module.dorsal.backbone.blocks.0.attn.qkv.weight'
    state[one] += 1
    before = dict(state)
    tie_shared_blocks(state, model.num_shared)
    changed = {key for key in state if state[key] is not before[key]}
    assert changed == {
        key
        for key in state
        if key.startswith(('module.dorsal.backbone.blocks.0', 'module.dorsal.backbone.blocks.1'))
    } - {one}
    assert [text[:34] for text in said] == ['1 tensors of shared blocks differ ']


def test_a_finetuned_model(saved):
    class Classifier(torch.nn.Module):
        pass

    class Run:
        model = Classifier()
        cfg = mmengine.Config(
            dict(model=dict(backbone=dict(type='bimm_mm.BimmViT', num_frames=16, init_cfg={})))
        )

    checkpoint = dict(state_dict={}, meta={})
    CheckpointContentsHook().before_save_checkpoint(Run(), checkpoint)
    meta = checkpoint['meta']
    assert (meta['stage'], meta['share']) == ('Classifier', 'none')
    assert meta['backbones'] == dict(dorsal=dict(type='bimm_mm.BimmViT', num_frames=16))
