import copy
import re

import pytest
import torch
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import MODELS
from torch import nn

from bimm_mm.models import DualBranchPretrainer, Reconstruction, SingleBranchPretrainer

SHARES = {'none': 0, 'partial': 2, 'all': 3, 1: 1}
SIX = [
    f'{branch}_{target}'
    for branch, targets in dict(
        ventral=('gabor', 'contour', 'pixel'), dorsal=('gabor', 'contour', 'motion')
    ).items()
    for target in targets
]


@pytest.fixture
def make_dual(make_branch):
    def make(share='partial', **kwargs) -> DualBranchPretrainer:
        torch.manual_seed(0)
        config = dict(ventral=make_branch(video=False), dorsal=make_branch(video=True)) | kwargs
        return MODELS.build(dict(type='DualBranchPretrainer', share=share, **config))

    return make


# modes -------------------------------------------------------------------------------------------


def test_loss_mode_names_six_losses_and_what_they_explain(make_dual, clips):
    model = make_dual()
    result = model(clips, mode='loss')
    assert set(result) == {f'{kind}_{name}' for kind in ('loss', 'explained') for name in SIX}
    assert all(value.dim() == 0 for value in result.values())
    assert all(result[f'loss_{name}'].requires_grad for name in SIX)
    assert not any(result[f'explained_{name}'].requires_grad for name in SIX)
    total, logged = model.parse_losses(result)
    torch.testing.assert_close(total, sum(result[f'loss_{name}'] for name in SIX))
    assert {f'explained_{name}' for name in SIX} <= set(logged)


def test_tensor_mode_gives_all_tokens_of_all_stages(make_dual, clips):
    result = make_dual()(clips)
    assert [f.shape for f in result['ventral']] == [(2, 17, 24)] * 3
    assert [f.shape for f in result['dorsal']] == [(2, 33, 24)] * 3


def test_predict_mode_gives_reconstructions_without_gradient(make_dual, clips):
    result = make_dual()(clips, mode='predict')
    assert list(result) == ['ventral', 'dorsal']
    for reconstruction in result.values():
        assert isinstance(reconstruction, Reconstruction)
        assert not any(p.requires_grad for p in reconstruction.predictions.values())
    assert torch.equal(result['dorsal'].x, clips)


def test_unknown_mode(make_dual, clips):
    with pytest.raises(ValueError, match="mode='train' must be 'loss', 'tensor' or 'predict'"):
        make_dual()(clips, mode='train')


def test_train_step_on_samples_as_workers_send_them(make_dual):
    model = make_dual()
    before = copy.deepcopy(model.state_dict())
    samples = [torch.randint(0, 256, (3, 4, 16, 16), dtype=torch.uint8) for _ in range(2)]
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    logged = model.train_step(dict(inputs=samples, data_samples=[None, None]), optimizer)
    assert torch.isfinite(logged['loss'])
    unchanged = {k for k, v in model.state_dict().items() if torch.equal(v, before[k])}
    assert unchanged == {key for key in before if key.endswith('pos_embed')}


# the ventral branch's frame ----------------------------------------------------------------------


def test_the_image_is_a_frame_of_the_clip_drawn_for_each_sample(make_dual):
    model = make_dual()
    clips = torch.arange(4.0).view(1, 1, 4, 1, 1) + 10 * torch.arange(64.0).view(64, 1, 1, 1, 1)
    clips = clips.expand(64, 3, 4, 2, 2)
    frames = model.take_frames(clips, model.draw_frames(clips))
    assert frames.shape == (64, 3, 2, 2)
    assert (frames == frames[:, :1, :1, :1]).all()
    picked = frames[:, 0, 0, 0] - 10 * torch.arange(64.0)
    assert picked.long().bincount(minlength=4).min() > 4
    assert picked.max() == 3


def test_a_single_ventral_branch_takes_images_or_clips(make_branch, clips):
    model = SingleBranchPretrainer(ventral=make_branch(video=False))
    for inputs in (clips, clips[:, :, 0]):
        losses = model(inputs, mode='loss')
        assert {k for k in losses if k.startswith('loss')} == {f'loss_{n}' for n in SIX[:3]}


def test_a_single_dorsal_branch(make_branch, clips):
    model = SingleBranchPretrainer(dorsal=make_branch(video=True))
    losses = model(clips, mode='loss')
    assert {k for k in losses if k.startswith('loss')} == {f'loss_{n}' for n in SIX[3:]}
    with pytest.raises(ValueError, match=r'are images, but the dorsal branch needs clips'):
        model(clips[:, :, 0], mode='loss')


def test_targets_know_how_the_preprocessor_normalizes(make_dual):
    constants = dict(mean=(127.5,) * 3, std=(127.5,) * 3)
    model = make_dual(data_preprocessor=dict(type='ClipDataPreprocessor', **constants))
    white = model.data_preprocessor.normalize(torch.full((1, 3, 1, 4, 4), 255, dtype=torch.uint8))
    for branch in model.branches.values():
        luminance = branch.targets[0].luminance(white)
        torch.testing.assert_close(luminance, torch.ones(1, 1, 4, 4))


# sharing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize('share, count', SHARES.items())
def test_shared_blocks_are_the_same_modules_and_nothing_else_is(make_dual, share, count):
    model = make_dual(share)
    pairs = zip(model.ventral.backbone.blocks, model.dorsal.backbone.blocks, strict=True)
    assert [a is b for a, b in pairs] == [True] * count + [False] * (3 - count)
    ventral, dorsal = (set(branch.parameters()) for branch in model.branches.values())
    blocks = set(model.ventral.backbone.blocks[:count].parameters())
    assert ventral & dorsal == blocks


@pytest.mark.parametrize('share, count', SHARES.items())
def test_the_optimizer_holds_shared_parameters_once(make_dual, share, count):
    model = make_dual(share)
    config = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05))
    for extra in ({}, dict(paramwise_cfg=dict(norm_decay_mult=0.0, bypass_duplicate=True))):
        optimizer = build_optim_wrapper(model, config | extra).optimizer
        held = [p for group in optimizer.param_groups for p in group['params']]
        assert len(held) == len(set(held)) == len(list(model.parameters()))


@pytest.mark.parametrize('share, count', SHARES.items())
def test_checkpoints_hold_both_branches_whole_and_restore_them(make_dual, clips, share, count):
    model, restored = make_dual(share), make_dual(share)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    state = model.state_dict()
    for branch in ('ventral', 'dorsal'):
        assert {f'{branch}.backbone.blocks.{i}.attn.qkv.weight' for i in range(3)} <= set(state)
    restored.load_state_dict(state)
    for name in ('ventral', 'dorsal'):
        image = clips[:, :, 0] if name == 'ventral' else clips
        a, b = (m.branches[name].backbone(image) for m in (model, restored))
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_copies_share_among_themselves(make_dual):
    """As for an average of weights."""
    model = make_dual()
    copied = copy.deepcopy(model)
    assert copied.dorsal.backbone.blocks[0] is copied.ventral.backbone.blocks[0]
    assert copied.dorsal.backbone.blocks[0] is not model.dorsal.backbone.blocks[0]


def test_shared_blocks_get_the_gradients_of_both_branches(make_dual, clips):
    model = make_dual()
    parameter = model.ventral.backbone.blocks[0].attn.qkv.weight
    gradients = []
    for names in (('ventral',), ('dorsal',), ('ventral', 'dorsal')):
        torch.manual_seed(1)
        losses = model(clips, mode='loss')
        total = sum(losses[f'loss_{n}'] for n in SIX if n.startswith(names))
        gradients.append(torch.autograd.grad(total, parameter)[0])
    assert gradients[0].abs().sum() > 0 and gradients[1].abs().sum() > 0
    torch.testing.assert_close(gradients[2], gradients[0] + gradients[1], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize('share, count', SHARES.items())
def test_gradient_groups_divide_the_parameters(make_dual, share, count):
    model = make_dual(share)
    groups = model.gradient_groups()
    assert set(groups) == {'ventral', 'dorsal'} | ({'shared'} if count else set())
    grouped = [p for group in groups.values() for p in group]
    assert len(grouped) == len(set(grouped)) == len(list(model.parameters()))
    assert set(groups.get('shared', ())) == set(model.ventral.backbone.blocks[:count].parameters())
    assert set(groups['dorsal']) <= set(model.dorsal.parameters())


# weights of the branches -------------------------------------------------------------------------


def test_lambda_scales_the_dorsal_losses_alone(make_dual, clips):
    results = []
    for weight in (1.0, 0.25):
        model = make_dual(dorsal_weight=weight)
        torch.manual_seed(1)
        results.append(model(clips, mode='loss'))
    for name in SIX:
        factor = 0.25 if name.startswith('dorsal') else 1.0
        torch.testing.assert_close(results[1][f'loss_{name}'], factor * results[0][f'loss_{name}'])
        assert results[1][f'explained_{name}'] == results[0][f'explained_{name}']


# initialization ----------------------------------------------------------------------------------


@pytest.fixture
def ventral(make_branch, tmp_path):
    """A ventral stage, not as it was initialized, and its checkpoint."""
    model = SingleBranchPretrainer(ventral=make_branch(video=False))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    path = str(tmp_path / 'ventral.pth')
    torch.save(dict(state_dict=model.state_dict()), path)
    return model.ventral, path


@pytest.mark.parametrize('share, count', SHARES.items())
def test_both_branches_start_from_the_ventral_stage(make_dual, ventral, share, count):
    source, path = ventral
    model = make_dual(share, init_dorsal_from=path)
    model.init_weights()
    own = model.ventral.state_dict()
    assert all(torch.equal(value, own[key]) for key, value in source.state_dict().items())
    for a, b in zip(source.backbone.blocks, model.dorsal.backbone.blocks, strict=True):
        for p, q in zip(a.parameters(), b.parameters(), strict=True):
            assert torch.equal(p, q)
    assert model.dorsal.backbone.blocks[0] is model.ventral.backbone.blocks[0] or not count
    weight = model.dorsal.backbone.patch_embed.projection.weight
    assert weight.shape == (24, 3, 2, 4, 4) and not weight[:, :, 0].any()
    assert torch.equal(weight[:, :, 1], source.backbone.patch_embed.projection.weight)
    # of the decoders, all but positions, the mixing over time, and the last layer of motion
    decoders = [
        {k: v for k, v in d.state_dict().items() if k not in ('pos_embed', 'mix_time.bias')}
        for d in model.dorsal.neck.decoders
    ]
    assert torch.equal(decoders[0].pop('mix_time.weight'), torch.eye(2))
    for index, own in enumerate(decoders):
        for key, value in source.neck.decoders[index].state_dict().items():
            if key in own and not key.startswith('head.2'):
                assert torch.equal(own[key], value)
    assert torch.equal(decoders[0]['head.weight'], source.neck.decoders[0].head.weight)


def initialized_decoders(model, branch):
    """Initialize the model; which of a branch's decoders, '0' to '2', are others than before."""
    neck = model.branches[branch].neck
    before = copy.deepcopy(neck.state_dict())
    model.init_weights()
    after = neck.state_dict()
    assert after.keys() == before.keys()
    return {key.split('.')[1] for key in after if not torch.equal(before[key], after[key])}


def static_predictions(branch, image):
    """What a branch predicts of one image, or of a clip of one cube in which nothing moves."""
    count = branch.backbone.grid_size[1] * branch.backbone.grid_size[2]
    keep, mask = torch.arange(count)[None].split([5, count - 5], dim=1)
    frames = branch.backbone.patch_size[0]
    x = image[:, :, None].repeat(1, 1, frames, 1, 1) if branch.is_video else image
    features = branch.backbone(x, keep)
    return dict(zip(branch.names, branch.neck(features, keep, mask), strict=True))


@pytest.mark.parametrize('inflation', ['center', 'mean'])
def test_of_a_static_clip_both_branches_predict_the_same_at_first(
    make_dual, make_branch, ventral, inflation
):
    dorsal = make_branch(video=True, num_frames=2, inflation=inflation)
    model = make_dual(dorsal=dorsal, init_dorsal_from=ventral[1]).eval()
    model.init_weights()
    image = torch.randn(1, 3, 16, 16)
    wanted, found = (static_predictions(model.branches[b], image) for b in ('ventral', 'dorsal'))
    torch.testing.assert_close(found['gabor'], wanted['gabor'], rtol=1e-3, atol=1e-4)
    for frame in found['contour'].unflatten(2, (2, 16)).unbind(2):
        torch.testing.assert_close(frame, wanted['contour'], rtol=1e-3, atol=1e-4)
    # motion is another target than pixels: its last layer is its own, and the rest is taken over
    own, source = (b.neck.decoders[2].state_dict() for b in (model.dorsal, model.ventral))
    changed = {k for k in source if own[k].shape != source[k].shape or (own[k] != source[k]).any()}
    assert changed <= {'head.2.weight', 'head.2.bias'}


def test_pixels_of_both_branches(make_dual, make_branch, ventral):
    """Each frame of a cube is given the image's colors, in the target's order."""
    dorsal = make_branch(video=True, num_frames=2)
    dorsal['targets'][2] = dict(type='PixelTarget')
    model = make_dual(dorsal=dorsal, init_dorsal_from=ventral[1]).eval()
    model.init_weights()
    image = torch.randn(1, 3, 16, 16)
    wanted, found = (static_predictions(model.branches[b], image) for b in ('ventral', 'dorsal'))
    frames = found['pixel'].unflatten(2, (3, 2, 16))
    colors = wanted['pixel'].unflatten(2, (3, 1, 16)).expand_as(frames)
    torch.testing.assert_close(frames, colors, rtol=1e-3, atol=1e-4)


def test_dorsal_decoders_that_do_not_fit_start_anew(make_dual, make_branch, ventral):
    dorsal = make_branch(video=True)
    dorsal['neck']['decoders'][0]['embed_dims'] = 16
    dorsal['neck']['decoders'][1] = dorsal['neck']['decoders'][1] | dict(mlp_head=False)
    model = make_dual(dorsal=dorsal, init_dorsal_from=ventral[1])
    assert initialized_decoders(model, 'dorsal') == {'2'}


@pytest.mark.parametrize(
    'ventral_decoder, dorsal_decoder',
    [
        (dict(mlp_head=False, embed_dims=16), dict(mlp_head=True, embed_dims=16)),  # 16 outputs
        (dict(num_heads=2), dict(num_heads=3)),
        (dict(depth=1), dict(depth=2)),
    ],
)
def test_a_decoder_of_another_kind_does_not_fit(
    make_dual, make_branch, tmp_path, ventral_decoder, dorsal_decoder
):
    configs = {}
    for name, change in (('ventral', ventral_decoder), ('dorsal', dorsal_decoder)):
        configs[name] = make_branch(video=name == 'dorsal')
        configs[name]['neck']['decoders'][1] = configs[name]['neck']['decoders'][1] | change
    path = str(tmp_path / 'other.pth')
    stage = SingleBranchPretrainer(ventral=configs['ventral'])
    torch.save(dict(state_dict=stage.state_dict()), path)
    model = make_dual(**configs, init_dorsal_from=path)
    assert initialized_decoders(model, 'dorsal') == {'0', '2'}


def test_fewer_decoders_than_the_checkpoint_has(make_dual, make_branch, ventral):
    source, path = ventral
    configs = {name: make_branch(video=name == 'dorsal') for name in ('ventral', 'dorsal')}
    for config in configs.values():
        config['backbone']['stage_ends'] = (3,)
        config['neck']['decoders'] = config['neck']['decoders'][:1]
        config['targets'] = config['targets'][:1]
    model = make_dual(**configs, share='all', init_dorsal_from=path)
    model.init_weights()
    for branch in model.branches.values():
        (decoder,) = branch.neck.decoders
        assert torch.equal(decoder.mix_space.weight, source.neck.decoders[0].mix_space.weight)
        assert torch.equal(decoder.head.weight, source.neck.decoders[0].head.weight)


def test_decoders_of_other_stages_are_not_taken_over(make_dual, make_branch, ventral):
    dorsal = make_branch(video=True)
    dorsal['neck']['stages'] = (0, 2, 1)
    model = make_dual(dorsal=dorsal, init_dorsal_from=ventral[1])
    assert initialized_decoders(model, 'dorsal') == {'0'}


def test_dorsal_decoders_can_start_anew(make_dual, ventral):
    model = make_dual(init_dorsal_from=ventral[1], init_dorsal_decoders=False)
    assert initialized_decoders(model, 'dorsal') == set()


def test_ventral_decoders_of_another_shape_start_anew(make_dual, make_branch, ventral):
    source, path = ventral
    config = make_branch(video=False)
    config['neck']['decoders'][0]['embed_dims'] = 16
    model = make_dual(ventral=config, init_dorsal_from=path)
    assert initialized_decoders(model, 'ventral') == {'1', '2'}
    weight = model.ventral.backbone.blocks[2].attn.qkv.weight
    assert torch.equal(weight, source.backbone.blocks[2].attn.qkv.weight)


def test_a_dorsal_branch_alone_starts_from_the_ventral_stage(make_branch, ventral):
    source, path = ventral
    config = make_branch(video=True) | dict(init_from=path)
    model = SingleBranchPretrainer(dorsal=config)
    model.init_weights()
    weight = model.dorsal.backbone.blocks[2].attn.qkv.weight
    assert torch.equal(weight, source.backbone.blocks[2].attn.qkv.weight)


# errors ------------------------------------------------------------------------------------------


@pytest.mark.parametrize('share', ['some', 4, -1, 1.0, True, None, (2,)])
def test_bad_share(make_dual, share):
    with pytest.raises(ValueError, match=re.escape(f"share='{share}' must be one of none, all")):
        make_dual(share)


def test_sharing_needs_equal_blocks(make_dual, make_branch):
    arch = dict(embed_dims=24, depth=3, num_heads=2, mlp_ratio=2)
    with pytest.raises((ValueError, TypeError), match='the same arch in both .* block 0 differs'):
        make_dual(dorsal=make_branch(video=True, arch=arch))
    make_dual('none', dorsal=make_branch(video=True, arch=arch))


def test_branches_in_the_wrong_place(make_dual, make_branch):
    with pytest.raises((ValueError, TypeError), match='the ventral backbone must be an image enc'):
        make_dual(dorsal=make_branch(video=False))
    with pytest.raises((ValueError, TypeError), match='the ventral backbone must be an image enc'):
        make_dual(ventral=make_branch(video=True))


@pytest.mark.parametrize('names, got', [((), 'none'), (('ventral', 'dorsal'), 'both')])
def test_a_single_pretrainer_has_one_branch(make_branch, names, got):
    branches = {name: make_branch(video=name == 'dorsal') for name in names}
    with pytest.raises(ValueError, match=f'exactly one of ventral and dorsal, and got {got}'):
        SingleBranchPretrainer(**branches)


def test_partial_sharing_needs_a_last_stage_that_starts_at_one_block(make_dual, make_branch):
    dorsal = make_branch(video=True)
    dorsal['backbone']['stage_ends'] = (1, 3)
    dorsal['neck']['decoders'].pop(0)
    dorsal['targets'].pop(0)
    with pytest.raises((ValueError, TypeError), match=r'stage_ends are \(1, 2, 3\) .* \(1, 3\)'):
        make_dual('partial', dorsal=dorsal)
    assert make_dual(1, dorsal=dorsal).num_shared == 1


# losses that are left out ------------------------------------------------------------------------


def train_once(model, clips):
    """The keys of the parameters that a step with weight decay and clips' losses moves."""
    wrapper = dict(
        type='OptimWrapper',
        optimizer=dict(type='AdamW', lr=0.1, weight_decay=0.5),
        constructor='LayerDecayOptimWrapperConstructor',
        paramwise_cfg=dict(layer_decay_rate=1.0),
    )
    optimizer = build_optim_wrapper(model, wrapper)
    before = copy.deepcopy(model.state_dict())
    losses = model(clips, mode='loss')
    optimizer.update_params(model.parse_losses(losses)[0])
    moved = {key for key, p in model.named_parameters() if not torch.equal(p, before[key])}
    return losses, moved


@pytest.mark.parametrize('weights, ends', [((1, 0, 0), 1), ((1, 1, 0), 2)])
def test_a_loss_of_weight_0_is_left_out_and_what_it_trained_stays(
    make_dual, make_branch, clips, weights, ends
):
    branches = {
        name: dict(make_branch(video=name == 'dorsal'), loss_weights=weights)
        for name in ('ventral', 'dorsal')
    }
    model = make_dual(**branches)
    losses, moved = train_once(model, clips)
    kept = [name for i, name in enumerate(SIX) if weights[i % 3]]
    assert {key for key in losses if key.startswith('loss_')} == {f'loss_{name}' for name in kept}
    unused = {
        key
        for key, _ in model.named_parameters()
        for number in re.findall(r'(?:blocks\.|norm|neck\.decoders\.)(\d+)', key)[:1]
        if int(number) >= ends
    }
    assert unused and moved == {key for key, _ in model.named_parameters()} - unused
    # DDP would wait for their gradients
    assert unused == {key for key, p in model.named_parameters() if not p.requires_grad}


def test_a_shared_block_is_trained_if_one_branch_needs_it(make_dual, make_branch, clips):
    ventral = dict(make_branch(video=False), loss_weights=(1, 0, 0))
    model = make_dual(ventral=ventral)  # blocks 0 and 1 are shared
    _, moved = train_once(model, clips)
    assert any(key.startswith('ventral.backbone.blocks.1.') for key in moved)
    assert not any(key.startswith('ventral.backbone.blocks.2.') for key in moved)
    assert any(key.startswith('dorsal.backbone.blocks.2.') for key in moved)
