"""Attention distance against what is known, and the gradients of the stages against each other."""

import json

import pytest
import torch
from mmengine.registry import MODELS

import bimm_mm  # noqa: F401
from bimm_mm.evaluation.analysis.attention_distance import attention_distance
from bimm_mm.evaluation.analysis.stage_gradients import compare_gradients, stage_gradients
from bimm_mm.models import BimmViT

ARCH = dict(embed_dims=24, depth=3, num_heads=2)


def backbone(**kwargs):
    torch.manual_seed(0)
    return BimmViT(ARCH, 16, 8, num_frames=4, stage_ends=(1, 2, 3), **kwargs)


def test_even_attention_looks_as_far_as_patches_are_apart_on_average():
    encoder = backbone()
    for block in encoder.blocks:  # all scores are 0: every patch counts the same
        torch.nn.init.zeros_(block.attn.qkv.weight)
    space, time = attention_distance(encoder, torch.randn(2, 3, 4, 16, 16))
    # 2x2 patches of 8 pixels: 0, 8, 8 and a diagonal; 2 cubes of 2 frames: 0 and 2
    assert space.shape == time.shape == (3, 2)
    torch.testing.assert_close(space, torch.full((3, 2), (16 + 8 * 2**0.5) / 4))
    torch.testing.assert_close(time, torch.ones(3, 2))


def test_attention_to_oneself_looks_nowhere():
    encoder = backbone(with_cls_token=False, out_type='raw')
    one_hot = torch.nn.functional.one_hot(torch.arange(8), 24).float()
    encoder.pos_embed = one_hot.view(1, 2, 2, 2, 24)
    torch.nn.init.zeros_(encoder.patch_embed.projection.weight)
    with torch.no_grad():  # queries and keys of both heads are the position
        encoder.blocks[0].attn.qkv.weight.view(3, 2, 12, 24)[:2] = 30 * torch.eye(12, 24)
    space, time = attention_distance(encoder, torch.randn(2, 3, 4, 16, 16))
    assert space[0].max() < 0.1 and time[0].max() < 0.1


def test_windows_are_refused():
    with pytest.raises(ValueError, match='window_size=1 must be 0'):
        attention_distance(
            backbone(window_size=1, out_type='featmap'), torch.randn(1, 3, 4, 16, 16)
        )


def branch(video, weights=None):
    decoder = dict(type='TransformerDecoder', embed_dims=16, depth=1, num_heads=2)
    return dict(
        backbone=dict(
            type='BimmViT',
            arch=ARCH,
            img_size=16,
            patch_size=8,
            stage_ends=(1, 3),
            **(dict(num_frames=4) if video else {}),
        ),
        masking=dict(type='TubeMasking' if video else 'RandomMasking', ratio=0.5),
        neck=dict(type='MultiStageDecoder', decoders=[decoder, decoder]),
        targets=[dict(type='GaborTarget'), dict(type='MotionTarget' if video else 'PixelTarget')],
        loss_weights=weights,
    )


def pretrainer(share, weights=None):
    torch.manual_seed(0)
    config = dict(ventral=branch(False), dorsal=branch(True, weights), share=share)
    return MODELS.build(dict(type='DualBranchPretrainer', **config))


def gradients(model):
    torch.manual_seed(1)
    return stage_gradients(model, dict(inputs=torch.randn(2, 3, 4, 16, 16)))


def test_the_gradients_of_the_stages_sum_up_to_that_of_the_whole_loss():
    model = pretrainer('partial')
    torch.manual_seed(1)
    outputs = model(torch.randn(2, 3, 4, 16, 16), mode='loss')
    sum(value for key, value in outputs.items() if key.startswith('loss_')).backward()
    whole = torch.cat([p.grad.flatten() for p in model.ventral.backbone.blocks[0].parameters()])
    parts = gradients(model)
    assert list(parts) == ['ventral_gabor', 'ventral_pixel', 'dorsal_gabor', 'dorsal_motion']
    torch.testing.assert_close(sum(parts.values()), whole, rtol=1e-4, atol=1e-5)


def test_branches_that_share_nothing_do_not_meet():
    names, norms, cosines = compare_gradients(gradients(pretrainer('none')))
    assert (norms > 0).all()
    torch.testing.assert_close(cosines.diagonal(), torch.ones(4).double())
    assert (cosines[:2, 2:] == 0).all() and (cosines[0, 1], cosines[2, 3]) != (0, 0)


def test_weights_of_losses_are_in_the_gradients():
    _, plain, _ = compare_gradients(gradients(pretrainer('partial')))
    _, weighted, _ = compare_gradients(gradients(pretrainer('partial', (3.0, 1.0))))
    expected = torch.tensor([1.0, 1.0, 3.0, 1.0])
    torch.testing.assert_close((weighted / plain).float(), expected)


@pytest.fixture(scope='module')
def joint():
    from pathlib import Path

    return Path(__file__).parents[3] / 'configs/bimm/demo/joint_shapes.py'


@pytest.fixture(scope='module')
def checkpoint(joint, tmp_path_factory):
    from mmengine.config import Config

    path = tmp_path_factory.mktemp('checkpoint') / 'random.pth'
    torch.manual_seed(3)
    torch.save(dict(state_dict=MODELS.build(Config.fromfile(joint).model).state_dict()), path)
    return path


def call(tool, monkeypatch, *arguments):
    import runpy

    monkeypatch.setattr('sys.argv', [str(tool), *map(str, arguments)])
    runpy.run_path(str(tool), run_name='__main__')


def test_the_pathway_of_a_checkpoint(joint, checkpoint, tmp_path, monkeypatch):
    tool = joint.parents[3] / 'tools/analysis_tools/probe_pathway.py'
    less = [f'probe_{split}.dataset.length=96' for split in ('train', 'test')]
    options = ('--out-dir', tmp_path, '--k', 5, '--cfg-options', *less)
    call(tool, monkeypatch, joint, checkpoint, *options)
    assert (tmp_path / 'pathway.png').stat().st_size > 10_000
    found = json.loads((tmp_path / 'pathway.json').read_text())
    assert list(found) == ['ventral', 'dorsal']
    for branch in found.values():
        assert branch['stage_ends'] == [2, 4, 6]
        for kind in ('trained', 'random'):
            assert {len(v) for v in branch[kind]['probe'].values()} == {7}
            assert len(branch[kind]['attention_pixels']) == 6
            assert branch[kind]['tested'] == 96
        assert branch['trained']['probe'] != branch['random']['probe']
    for arguments, message in (
        ((checkpoint, '--labels', 'gt_label'), "label='gt_label' is not in a sample"),
        ((tmp_path / 'none.pth',), 'no checkpoint .*none.pth'),
    ):
        with pytest.raises(SystemExit, match=message):
            call(tool, monkeypatch, joint, *arguments, '--cfg-options', *less)


def test_the_gradients_of_a_checkpoint(joint, checkpoint, tmp_path, monkeypatch):
    tool = joint.parents[3] / 'tools/analysis_tools/stage_gradients.py'
    less = ('--cfg-options', 'train_dataloader.batch_size=2', 'train_dataloader.dataset.length=8')
    call(tool, monkeypatch, joint, checkpoint, '--batches', 2, '--out-dir', tmp_path, *less)
    assert (tmp_path / 'gradients.png').stat().st_size > 5_000
    found = json.loads((tmp_path / 'gradients.json').read_text())
    assert len(found['names']) == 6 and len(found['norms']) == 2
    with pytest.raises(SystemExit, match='does not fit'):
        ventral = joint.with_name('ventral_shapes.py')
        torch.save(dict(state_dict=dict(a=torch.ones(1))), tmp_path / 'other.pth')
        call(tool, monkeypatch, ventral, tmp_path / 'other.pth')
