"""BimmViT in mmpretrain's MAE, and mmpretrain's Transformers as encoders of a branch."""

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

from bimm_mm.models import Branch, DualBranchPretrainer, MaskedEncoder, MmpretrainEncoder

pytest.importorskip('mmpretrain')

ARCH = dict(embed_dims=24, depth=3, num_heads=2)
VIT = dict(embed_dims=24, num_layers=3, num_heads=2, feedforward_channels=48)
IDS = torch.tensor([[0, 3, 7, 12], [1, 2, 9, 15]])


def randomise(module):
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.1)
    return module.eval()


def masked_encoder(**kwargs):
    encoder = dict(type='BimmViT', arch=ARCH, img_size=16, patch_size=4) | kwargs
    return MaskedEncoder(encoder, dict(type='RandomMasking', ratio=0.75))


def foreign(kind='VisionTransformer', stage_ends=(1, 3), **kwargs):
    torch.manual_seed(0)
    vit = dict(type=f'mmpretrain.{kind}', arch=VIT, img_size=16, patch_size=4) | kwargs
    return randomise(MmpretrainEncoder(vit, stage_ends))


# ours in theirs ----------------------------------------------------------------------------------


def test_masks_are_those_of_the_visible_tokens():
    model, x = randomise(masked_encoder()), torch.randn(5, 3, 16, 16)
    latent, mask, ids_restore = model(x)
    assert (latent.shape, mask.shape, ids_restore.shape) == ((5, 5, 24), (5, 16), (5, 16))
    assert torch.equal(mask.bool(), ids_restore >= 4)  # visible ones come first
    assert torch.equal(ids_restore.sort(dim=1).values, torch.arange(16).expand(5, -1))
    ids_keep = ids_restore.argsort(dim=1)[:, :4]
    torch.testing.assert_close(latent, model.encoder(x, ids_keep)[0])
    assert len(set(map(tuple, mask.tolist()))) > 1


def test_without_mask_it_is_the_encoder():
    model, x = randomise(masked_encoder()), torch.randn(2, 3, 16, 16)
    assert torch.equal(model(x, mask=None)[0], model.encoder(x)[0])


@pytest.mark.parametrize('kwargs', [dict(num_frames=4), dict(with_cls_token=False)])
def test_mae_needs_images_and_a_class_token(kwargs):
    with pytest.raises(ValueError, match='encoder: MAE needs one of images'):
        masked_encoder(**kwargs)


# theirs in ours ----------------------------------------------------------------------------------


@pytest.mark.parametrize('kind', ['VisionTransformer', 'MAEViT', 'MoCoV3ViT', 'DeiT3'])
def test_with_nothing_masked_the_last_stage_is_the_backbones_own_output(kind):
    model, x = foreign(kind, out_type='raw'), torch.randn(2, 3, 16, 16)
    own = model.vit(x, mask=None) if kind == 'MAEViT' else model.vit(x)
    features = model(x)
    assert [feature.shape for feature in features] == [(2, 17, 24)] * 2
    torch.testing.assert_close(features[-1], own[-1], rtol=1e-4, atol=1e-5)
    everything = torch.arange(16).repeat(2, 1)
    torch.testing.assert_close(model(x, everything)[-1], own[-1], rtol=1e-4, atol=1e-5)


def test_visible_tokens_do_not_depend_on_masked_ones():
    model, x = foreign(), torch.randn(2, 3, 16, 16)
    shown = torch.zeros(2, 16).scatter(1, IDS, 1.0).view(2, 1, 4, 4)
    shown = shown.repeat_interleave(4, 2).repeat_interleave(4, 3).bool()
    noise = torch.where(shown, x, torch.randn_like(x))
    for a, b in zip(model(x, IDS), model(noise, IDS), strict=True):
        assert a.shape == (2, 5, 24)
        torch.testing.assert_close(a, b)
    assert not torch.allclose(model(x)[-1], model(noise)[-1])


def test_stages_are_read_after_their_layers():
    model, x = foreign(), torch.randn(2, 3, 16, 16)
    before = model(x)
    randomise(model.vit.layers[2])
    after = model(x)
    assert torch.equal(before[0], after[0])
    assert not torch.allclose(before[1], after[1])


def make_branch(encoder, video=False):
    return dict(
        backbone=encoder,
        masking=dict(type='TubeMasking' if video else 'RandomMasking', ratio=0.75),
        neck=dict(
            type='MultiStageDecoder',
            decoders=[dict(type='LinearDecoder', embed_dims=12, predict='visible')] * 2,
        ),
        targets=[dict(type='GaborTarget'), dict(type='PixelTarget')],
    )


def encoders():
    vit = dict(type='mmpretrain.VisionTransformer', arch=VIT, img_size=16, patch_size=4)
    ventral = dict(type='MmpretrainEncoder', vit=vit, stage_ends=(1, 3))
    dorsal = dict(type='BimmViT', arch=dict(ARCH, mlp_ratio=2), img_size=16, patch_size=4)
    return ventral, dorsal | dict(num_frames=4, stage_ends=(1, 3))


def test_a_branch_trains_every_parameter():
    model = Branch(**make_branch(encoders()[0]))
    losses = model.losses(model(torch.randn(2, 3, 16, 16)))
    sum(v for k, v in losses.items() if k.startswith('loss')).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]


def test_jointly_with_a_dorsal_branch_of_ours():
    ventral, dorsal = encoders()
    branches = dict(ventral=make_branch(ventral), dorsal=make_branch(dorsal, video=True))
    model = DualBranchPretrainer(**branches, share='none')
    losses = model(torch.randn(2, 3, 4, 16, 16), mode='loss')
    assert sum(name.startswith('loss_') for name in losses) == 4
    with pytest.raises(ValueError, match="share='partial' needs BimmViT in both branches"):
        DualBranchPretrainer(**branches)


def test_weights_go_back_to_mmpretrain():
    model = foreign()
    state = {f'ventral.backbone.{key}': value for key, value in model.state_dict().items()}
    prefix = 'ventral.backbone.vit.'
    state = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    vit = MODELS.build(
        dict(type='mmpretrain.VisionTransformer', arch=VIT, img_size=16, patch_size=4)
    )
    vit.load_state_dict(state)
    assert torch.equal(vit.pos_embed, model.vit.pos_embed)


@pytest.mark.parametrize(
    'vit, reason',
    [
        (dict(type='ResNet', depth=18), 'it has no patch_embed and no patch_resolution'),
        (dict(type='BEiTViT'), 'it has no pos_embed'),
        (dict(type='DistilledVisionTransformer'), 'it has further tokens besides a class token'),
        (dict(type='ViTEVA02'), 'its layers need more than the tokens'),
    ],
)
def test_backbones_that_are_called_otherwise_are_refused(vit, reason):
    if vit['type'] != 'ResNet':
        vit = dict(vit, arch=VIT, img_size=16, patch_size=4)
    vit['type'] = f'mmpretrain.{vit["type"]}'
    with pytest.raises(ValueError, match=f"vit.type='{vit['type']}' cannot .*: {reason}"):
        MmpretrainEncoder(vit)


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(stage_ends=(1, 2)), r'stage_ends=\(1, 2\) must increase .* the depth, 3'),
        (dict(stage_ends=(2, 1, 3)), 'must increase'),
        (dict(out_type='featmap'), "out_type='featmap' and out_indices='stages' must be 'raw'"),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        MmpretrainEncoder(encoders()[0]['vit'], **kwargs)


def test_another_size_is_refused():
    with pytest.raises(ValueError, match=r'input has \(6, 4\) patches, but .* gives \(4, 4\)'):
        foreign()(torch.randn(1, 3, 24, 16))
