import copy

import pytest
import torch
from mmengine.registry import MODELS, Registry
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from bimm_mm.models import BimmViT

TINY = dict(embed_dims=24, depth=4, num_heads=2)


def tiny(**kwargs) -> BimmViT:
    torch.manual_seed(0)
    return BimmViT(**(dict(arch=TINY, img_size=16, patch_size=4, stage_ends=(1, 2, 4)) | kwargs))


def clip(batch=2, frames=4, size=16):
    return torch.randn(batch, 3, frames, size, size)


# size --------------------------------------------------------------------------------------------


@pytest.mark.parametrize('arch, million, giga', [('base', 87, 180), ('large', 305, 597)])
def test_parameters_and_multiply_adds_are_the_papers(arch, million, giga):
    """Table 1 of the paper: a 400-class head, one view of 16x224²; attention's products count."""
    with torch.device('meta'):
        model = BimmViT(arch, num_frames=16, out_type='avg_featmap')
        head = nn.Linear(model.embed_dims, 400)
        x = torch.empty(1, 3, 16, 224, 224)
    parameters = sum(p.numel() for m in (model, head) for p in m.parameters())
    assert parameters / 1e6 == pytest.approx(million, abs=1)
    with FlopCounterMode(display=False) as counter:
        head(model(x)[0])
    assert counter.get_total_flops() / 2e9 == pytest.approx(giga, abs=1)


def test_masked_tokens_cost_nothing():
    model, x = tiny(num_frames=4, out_type='raw'), clip(1)
    with FlopCounterMode(display=False) as all_tokens:
        model(x)
    with FlopCounterMode(display=False) as half:
        model(x, torch.arange(16)[None])  # of 32
    assert half.get_total_flops() < 0.53 * all_tokens.get_total_flops()


@pytest.mark.parametrize('arch, depth, ends', [('base', 12, (2, 4, 12)), ('large', 24, (4, 8, 24))])
def test_stages_end_at_the_papers_fractions(arch, depth, ends):
    with torch.device('meta'):
        model = BimmViT(arch)
    assert (model.depth, model.stage_ends) == (depth, ends)


# masked tokens -----------------------------------------------------------------------------------


@pytest.mark.parametrize('frames', [None, 4])
def test_visible_tokens_do_not_depend_on_masked_ones(frames):
    model = tiny(num_frames=frames, out_type='raw', out_indices='stages')
    x = clip() if frames else clip()[:, :, 0]
    ids = torch.tensor([[0, 3, 7, 12], [1, 2, 9, 15]])
    features = model(x, ids)
    patch = torch.zeros(2, 32 if frames else 16)
    shown = patch.scatter(1, ids, 1.0).view(2, -1, 4, 4)
    shown = shown.repeat_interleave(4, 2).repeat_interleave(4, 3)
    shown = shown.repeat_interleave(2, 1)[:, None] if frames else shown
    noise = torch.where(shown.bool(), x, torch.randn_like(x))
    assert not torch.equal(noise, x)
    for a, b in zip(features, model(noise, ids), strict=True):
        assert a.shape == (2, 5, 24)
        assert torch.equal(a, b)


def test_visible_tokens_are_encoded_as_by_an_encoder_that_is_given_nothing_else():
    """By hand: embed everything, add positions, then pick, prepend the class token and go on."""
    model = tiny(num_frames=4, out_type='raw', out_indices=(1, 3))
    x, ids = clip(), torch.tensor([[0, 3, 17, 30], [1, 2, 9, 31]])
    tokens = model.patch_embed.projection(x).flatten(2).transpose(1, 2)
    tokens = tokens + model.pos_embed.view(1, 32, 24)
    tokens = torch.stack([row[i] for row, i in zip(tokens, ids, strict=True)])
    tokens = torch.cat([model.cls_token.expand(2, 1, 24), tokens], dim=1)
    wanted = []
    for index, block in enumerate(model.blocks):
        tokens = block(tokens)
        if index in (1, 3):
            wanted.append(getattr(model, f'norm{index}')(tokens))
    for feature, tokens in zip(model(x, ids), wanted, strict=True):
        torch.testing.assert_close(feature, tokens, rtol=1e-4, atol=1e-4)


def test_keeping_all_tokens_is_masking_nothing():
    model = tiny(out_type='raw')
    x = clip()[:, :, 0]
    everything = torch.arange(16).repeat(2, 1)
    torch.testing.assert_close(model(x)[0], model(x, everything)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('kwargs', [dict(out_type='featmap'), dict(out_type='raw', window_size=2)])
def test_ids_keep_needs_raw_tokens_and_global_attention(kwargs):
    with pytest.raises(ValueError, match='ids_keep needs'):
        tiny(**kwargs)(clip()[:, :, 0], torch.zeros(2, 1, dtype=torch.long))


# outputs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'out_type, image, video',
    [
        ('cls_token', (2, 24), (2, 24)),
        ('avg_featmap', (2, 24), (2, 24)),
        ('featmap', (2, 24, 4, 4), (2, 24, 2, 4, 4)),
        ('raw', (2, 17, 24), (2, 33, 24)),
    ],
)
def test_output_shapes(out_type, image, video):
    assert tiny(out_type=out_type)(clip()[:, :, 0])[0].shape == image
    assert tiny(out_type=out_type, num_frames=4)(clip())[0].shape == video


@pytest.mark.parametrize('frames', [None, 4])
def test_output_types_are_views_of_the_same_tokens(frames):
    x = clip() if frames else clip()[:, :, 0]
    raw, cls, mean, grid = (
        tiny(out_type=kind, num_frames=frames).eval()(x)[0]
        for kind in ('raw', 'cls_token', 'avg_featmap', 'featmap')
    )
    assert torch.equal(cls, raw[:, 0])
    assert torch.equal(mean, raw[:, 1:].mean(dim=1))
    assert torch.equal(grid.flatten(2).transpose(1, 2), raw[:, 1:])


def test_without_class_token():
    model = tiny(with_cls_token=False, out_type='raw')
    assert 'cls_token' not in model.state_dict()
    assert model(clip()[:, :, 0])[0].shape == (2, 16, 24)


@pytest.mark.parametrize(
    'indices, resolved',
    [(None, (3,)), ('stages', (0, 1, 3)), ((0, 2), (0, 2)), ((1, -1), (1, 3)), ([-3], (1,))],
)
def test_out_indices(indices, resolved):
    model = tiny(out_indices=indices, out_type='raw')
    assert model.out_indices == resolved
    assert len(model(clip()[:, :, 0])) == len(resolved)
    assert {n for n, _ in model.named_children() if n.startswith('norm')} == {
        f'norm{i}' for i in resolved
    }


def test_an_earlier_output_is_what_the_later_blocks_start_from():
    model = tiny(out_indices=(1, 3), out_type='raw')
    x = clip()[:, :, 0]
    before = model(x)
    for parameter in model.blocks[2:].parameters():
        nn.init.normal_(parameter)
    after = model(x)
    assert torch.equal(before[0], after[0])
    assert not torch.allclose(before[1], after[1])


def test_other_input_sizes_get_interpolated_positions():
    model = tiny(out_type='raw', num_frames=4)
    assert model(clip(frames=8, size=24))[0].shape == (2, 1 + 4 * 6 * 6, 24)
    # what a constant input makes of the tokens differs only by their positions
    model.pos_embed.zero_()
    tokens = model(torch.ones(1, 3, 8, 24, 24))[0][0, 1:]
    torch.testing.assert_close(tokens, tokens[:1].expand_as(tokens), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('mode', ['bicubic', 'bilinear'])
@pytest.mark.parametrize('frames', [None, 4])
def test_another_size_is_an_encoder_with_positions_interpolated_by_hand(frames, mode):
    """Of rows and columns by ``mode``, of the frames linearly."""
    small, size = tiny(out_type='raw', num_frames=frames, pos_interpolation=mode), (24, 20)
    large = tiny(out_type='raw', num_frames=frames and 8, img_size=size)
    state = small.state_dict()
    x = torch.randn(2, 3, *((8,) if frames else ()), *size)
    positions = state['pos_embed'].permute(0, 4, 1, 2, 3)  # (1, C, T', H', W')
    rows = [nn.functional.interpolate(p, (6, 5), mode=mode) for p in positions.unbind(2)]
    positions = torch.stack(rows, dim=2)
    if frames:
        positions = nn.functional.interpolate(positions, (4, 6, 5), mode='trilinear')
    large.load_state_dict(state | dict(pos_embed=positions.permute(0, 2, 3, 4, 1)))
    torch.testing.assert_close(small(x)[0], large(x)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('cls', [True, False])
@pytest.mark.parametrize('window', [6, 7, 9])  # one is as large as the longer side of the grid
def test_one_window_over_the_whole_image_is_global_attention(window, cls):
    kwargs = dict(out_type='raw', img_size=(24, 20), out_indices='stages', with_cls_token=cls)
    x = torch.randn(2, 3, 24, 20)
    for feature, wanted in zip(
        tiny(window_size=window, **kwargs)(x), tiny(**kwargs)(x), strict=True
    ):
        torch.testing.assert_close(feature, wanted, rtol=1e-4, atol=1e-5)


def test_feature_maps_of_any_size_by_padding_with_zeros_below_and_right():
    model = tiny(out_type='featmap', out_indices=(1, 3))
    x = torch.randn(2, 3, 18, 13)
    maps = model(x)
    assert [m.shape for m in maps] == [(2, 24, 5, 4)] * 2
    padded = nn.functional.pad(x, (0, 3, 0, 2))
    assert all(torch.equal(a, b) for a, b in zip(maps, model(padded), strict=True))


def test_windows_limit_what_a_token_sees_but_for_global_blocks():
    """Without a class token, which would carry information from window to window."""
    kwargs = dict(with_cls_token=False, out_type='featmap', window_size=2)
    x = torch.randn(1, 3, 16, 16)
    other = x.clone()
    other[..., :4, :4] += 1  # token (0, 0)
    local, mixed = tiny(**kwargs), tiny(**kwargs, global_blocks=(3,))
    changed = (local(x)[0] != local(other)[0]).any(dim=1)[0]
    assert changed[:2, :2].all() and changed.sum() == 4
    assert (mixed(x)[0] != mixed(other)[0]).any(dim=1).all()


# training ----------------------------------------------------------------------------------------


def test_drop_path_rises_linearly_from_zero():
    model = tiny(drop_path_rate=0.3)
    rates = [getattr(block.drop_path, 'drop_prob', 0.0) for block in model.blocks]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3])


@pytest.mark.parametrize('masked', [False, True])
def test_activation_checkpointing_changes_neither_values_nor_gradients(masked):
    x = clip()[:, :, 0]
    ids = torch.arange(5).repeat(2, 1) if masked else None
    results = []
    for with_cp in (False, True):
        model = tiny(with_cp=with_cp, out_type='raw', out_indices='stages')
        calls = []
        model.blocks[2].register_forward_pre_hook(lambda *args, calls=calls: calls.append(1))
        loss = sum(out.square().sum() for out in model(x, ids))
        loss.backward()
        results.append((loss, [p.grad for p in model.parameters()], len(calls)))
    torch.testing.assert_close(results[0][:2], results[1][:2])
    assert (results[0][2], results[1][2]) == (1, 2)  # recomputed, so it is not idle


@pytest.mark.parametrize('frozen', [-1, 0, 1, 2, 3])
def test_frozen_stages_do_not_learn_and_the_others_do(frozen):
    model = tiny(frozen_stages=frozen, out_type='raw', out_indices='stages', drop_path_rate=0.5)
    model.train()
    loss = sum(out.square().sum() for out in model(clip()[:, :, 0]))
    assert loss.requires_grad == (frozen < 3)
    if loss.requires_grad:
        loss.backward()
    learning = {name for name, p in model.named_parameters() if p.grad is not None}
    blocks = (0, 0, 1, 2, 4)[frozen + 1]
    names = {name for name, _ in model.named_parameters()}
    wanted = {n for n in names if n.startswith('blocks') and int(n.split('.')[1]) >= blocks}
    wanted |= {n for n in names if n.startswith('norm') and int(n.split('.')[0][4:]) >= blocks}
    wanted |= {n for n in names if n.startswith(('patch_embed', 'cls_token')) and frozen < 0}
    assert learning == wanted
    assert [block.training for block in model.blocks] == [i >= blocks for i in range(4)]


# checkpoints -------------------------------------------------------------------------------------


def test_a_pretraining_encoder_loads_into_a_downstream_one():
    pretrained = tiny(out_type='raw', out_indices='stages', num_frames=4)
    downstream = tiny(out_type='avg_featmap', num_frames=4)
    nn.init.normal_(pretrained.norm3.weight)
    state = pretrained.state_dict()
    missing, unexpected = downstream.load_state_dict(state)
    assert not missing and not unexpected
    assert 'norm0.weight' in state  # the caller's dict is as it was
    x = clip()
    wanted = pretrained(x)[-1][:, 1:].mean(dim=1)
    torch.testing.assert_close(downstream(x)[0], wanted, rtol=1e-5, atol=1e-5)


def test_an_encoder_inside_of_a_model_loads_too():
    def wrap(**kwargs):
        return nn.ModuleDict(dict(backbone=tiny(**kwargs)))

    state = wrap(out_type='raw', out_indices='stages').state_dict()
    missing, unexpected = wrap().load_state_dict(state)
    assert not missing and not unexpected


def test_positions_of_a_checkpoint_with_another_grid_are_interpolated():
    small, large = tiny(), tiny(img_size=(24, 32))
    state = small.state_dict()
    state['pos_embed'] = torch.ones_like(state['pos_embed']) * 7
    large.load_state_dict(state)
    assert large.pos_embed.shape == (1, 1, 6, 8, 24)
    torch.testing.assert_close(large.pos_embed, torch.full_like(large.pos_embed, 7))
    copied = copy.deepcopy(large)  # as for an average of weights: its hook must serve the copy
    copied.load_state_dict(small.state_dict())
    assert copied.pos_embed.shape == (1, 1, 6, 8, 24)


def test_init_cfg_loads_the_encoder_of_a_pretrainer(tmp_path):
    pretrained = tiny(out_type='raw', out_indices='stages')
    nn.init.normal_(pretrained.blocks[2].mlp.fc1.weight)
    path = str(tmp_path / 'pretrained.pth')
    state = {f'ventral.backbone.{key}': value for key, value in pretrained.state_dict().items()}
    torch.save(dict(state_dict=state), path)
    init_cfg = dict(type='Pretrained', checkpoint=path, prefix='ventral.backbone.')
    model = tiny(init_cfg=init_cfg, img_size=32)
    model.init_weights()
    assert torch.equal(model.blocks[2].mlp.fc1.weight, pretrained.blocks[2].mlp.fc1.weight)
    assert model.pos_embed.shape == (1, 1, 8, 8, 24)


# errors ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(arch='huge'), "arch='huge' must be one of tiny, small, base, large"),
        (dict(arch=dict(embed_dims=24, depth=4)), 'arch=.* must have .*num_heads'),
        (dict(arch=dict(TINY, layers=2)), 'arch=.* must have'),
        (dict(arch=dict(TINY, num_heads=5)), 'embed_dims=24 is not a multiple of num_heads=5'),
        (dict(img_size=18), r'img_size \(height\)=18 is not a multiple .*\(4\): 16 or 20 is'),
        (dict(img_size=(16, 2)), r'img_size \(width\)=2 is not a multiple .*\(4\): 4 or 4 is'),
        (dict(num_frames=5), r'num_frames=5 is not a multiple of the patch \(2\): 4 or 6 is'),
        (dict(stage_ends=(2, 1, 4)), r'stage_ends=\(2, 1, 4\) must increase .* the depth, 4'),
        (dict(stage_ends=(1, 1, 4)), r'stage_ends=\(1, 1, 4\) must increase'),
        (dict(stage_ends=(1, 2)), r'stage_ends=\(1, 2\) must increase'),
        (dict(stage_ends=(0, 4)), r'stage_ends=\(0, 4\) must increase'),
        (dict(stage_ends=(1.5, 4)), r'stage_ends=\(1.5, 4\) must increase .* whole'),
        (dict(stage_ends=()), r'stage_ends=\(\) must increase'),
        (dict(stage_ends=(0, 4)), r'stage_ends=\(0, 4\) must increase'),
        (dict(stage_ends=()), r'stage_ends=\(\) must increase'),
        (dict(out_type='map'), "out_type='map' must be one of cls_token, avg_featmap"),
        (dict(with_cls_token=False), "out_type='cls_token' needs with_cls_token=True"),
        (dict(out_indices=(3, 1)), r'out_indices=\(3, 1\) must increase'),
        (dict(out_indices=(4,)), r'out_indices=\(4,\) must increase within the blocks, 0 to 3'),
        (dict(out_indices=()), r'out_indices=\(\) must increase'),
        (dict(out_indices='all'), "out_indices='all' must be 'stages' or"),
        (dict(frozen_stages=4), 'frozen_stages=4 must be -1 to 3'),
        (dict(frozen_stages=-2), 'frozen_stages=-2 must be -1 to 3'),
        (dict(drop_path_rate=1.0), 'drop_path_rate=1.0 must be at least 0 and less than 1'),
        (dict(window_size=2, global_blocks=(4,)), r'global_blocks=\(4,\) must be blocks, 0 to 3'),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        tiny(**kwargs)


@pytest.mark.parametrize(
    'frames, x, message',
    [
        (None, clip(), r'shape \(2, 3, 4, 16, 16\), but this image encoder needs \(B, 3, H, W\)'),
        (4, clip()[:, :, 0], r'this video encoder needs \(B, 3, T, H, W\)'),
        (None, clip()[:, :1, 0], r'shape \(2, 1, 16, 16\)'),
        (None, clip(size=18)[:, :, 0], r'img_size \(height\)=18 is not a multiple'),
        (4, clip(frames=3), 'num_frames=3 is not a multiple'),
    ],
)
def test_bad_inputs(frames, x, message):
    with pytest.raises(ValueError, match=message):
        tiny(num_frames=frames)(x)


def test_the_registry_knows_it_from_every_scope():
    elsewhere = Registry('model', parent=MODELS, scope='elsewhere')
    config = dict(type='BimmViT', arch=TINY, img_size=16, patch_size=4)
    assert isinstance(elsewhere.build(config), BimmViT)


def test_interpolated_positions_are_told_once(caplog, monkeypatch):
    told = []
    monkeypatch.setattr(
        'bimm_mm.models.backbones.bimm_vit.print_log', lambda text, **kwargs: told.append(text)
    )
    arch = dict(embed_dims=24, depth=1, num_heads=2)
    encoder = BimmViT(arch, img_size=32, patch_size=16, stage_ends=None)
    encoder(torch.zeros(1, 3, 32, 32))
    assert not told
    for _ in range(2):
        encoder(torch.zeros(1, 3, 64, 64))
    (text,) = told
    assert 'Inputs of 1x64x64' in text and 'made for 1x32x32' in text and '4 times as many' in text
