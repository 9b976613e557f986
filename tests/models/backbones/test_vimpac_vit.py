import runpy
from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS

from bimm_mm.models.backbones import VimpacViT
from bimm_mm.models.conversion.vimpac import from_vimpac, to_vimpac
from bimm_mm.models.layers.axial import resize_table

OFFICIAL = runpy.run_path(str(Path(__file__).parents[2] / 'vimpac_official.py'))
TINY = dict(embed_dims=32, depth=2, num_heads=4)


def tiny(**kwargs):
    torch.manual_seed(0)
    return VimpacViT(**dict(arch=TINY, grid_size=(3, 4, 5), num_codes=20) | kwargs).eval()


@pytest.mark.parametrize(
    'arch, attention, millions',
    [
        ('small', 'T,H|W', 29.4),
        (dict(embed_dims=512, depth=12, num_heads=8), 'T,H|W', 54.7),
        (dict(embed_dims=768, depth=6, num_heads=12), 'T,H|W', 63.0),
        ('base', 'T,H|W', 119.7),
        ('large_half', 'T,H|W', 210.1),
        ('small', 'joint', 23.1),
        ('small', 'T,H,W', 35.8),
    ],
)
def test_the_paper_s_models_have_the_paper_s_number_of_parameters(arch, attention, millions):
    with torch.device('meta'):
        encoder = VimpacViT(arch, attention=attention)
    count = sum(parameter.numel() for parameter in encoder.parameters())
    assert round(count / 1e6, 1) == millions


@pytest.mark.parametrize('layout', ['joint', 'T,H|W'])
@pytest.mark.parametrize('half', [False, True])
def test_published_weights_give_the_features_of_the_equations(layout, half):
    state = OFFICIAL['random_state'](layout, half=half)
    codes = torch.randint(8192, (2, 3, 4, 4), generator=torch.Generator().manual_seed(1))
    codes[0, 2], codes[1, 1:] = OFFICIAL['PAD'], OFFICIAL['PAD']
    cls, tokens = OFFICIAL['encode'](state, codes, layout)
    converted, config, left = from_vimpac(state)
    encoder = MODELS.build(config | dict(out_type='raw')).eval()
    own = {k.removeprefix('backbone.'): v for k, v in converted.items() if 'backbone.' in k}
    encoder.load_state_dict(own)
    with torch.no_grad():
        (features,) = encoder(codes)
    torch.testing.assert_close(features[:, 0], cls, atol=1e-4, rtol=0)
    torch.testing.assert_close(features[:, 1:], tokens.flatten(1, 3), atol=1e-4, rtol=0)
    assert not left
    assert tokens.std() > 0.5  # not all alike
    back = to_vimpac(converted, config)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)


def test_the_published_names_of_a_small_model_give_its_config():
    state = OFFICIAL['random_state']('T,H|W', width=512, depth=6, grid=(5, 16, 16))
    assert from_vimpac(state)[1] == dict(
        type='VimpacViT', arch='small', grid_size=(5, 16, 16), attention='T,H|W'
    )


def test_a_file_that_is_not_complete_or_of_another_kind_is_refused():
    state = OFFICIAL['random_state']('joint')
    del state['backbone.ln_pre.bias']
    with pytest.raises(ValueError, match='not complete, it lacks .*ln_pre.bias'):
        from_vimpac(state)
    state = OFFICIAL['random_state']('joint') | {'backbone.ln_post.weight': torch.ones(128)}
    with pytest.raises(ValueError, match='does not have, as backbone.ln_post.weight'):
        from_vimpac(state)
    with pytest.raises(ValueError, match="no 'backbone.embedding.weight'"):
        from_vimpac({'a': torch.ones(1)})


@pytest.mark.parametrize('attention', ['joint', 'T,HxW', 'T,H,W', 'T,H|W'])
def test_what_is_padded_does_not_change_the_features_of_the_rest(attention):
    encoder = tiny(attention=attention, out_type='raw')
    codes = torch.randint(20, (2, 3, 4, 5))
    codes[:, 2] = encoder.pad_code
    with torch.no_grad():
        before = encoder(codes)[0][:, : 1 + 40]
        encoder.embedding.weight[encoder.pad_code].fill_(3.0)
        torch.testing.assert_close(encoder(codes)[0][:, : 1 + 40], before)
        if attention == 'joint':  # then a shorter clip is the same as one that is filled up
            torch.testing.assert_close(encoder(codes[:, :2])[0], before)


def test_masked_codes_stay_as_mask_tokens_and_padding_is_never_masked():
    encoder = tiny(out_type='raw')
    codes = torch.randint(20, (1, 3, 4, 5))
    codes[:, 2] = encoder.pad_code
    mask = torch.zeros(1, 3, 4, 5, dtype=torch.bool)
    mask[:, 1:, :2] = True
    replaced = codes.clone()
    replaced[:, 1, :2] = encoder.mask_code
    with torch.no_grad():
        torch.testing.assert_close(encoder(codes, mask)[0], encoder(replaced)[0])
    assert encoder(codes, mask)[0].shape == (1, 61, 32)


def test_outputs_have_the_shapes_of_their_type():
    codes = torch.randint(20, (2, 3, 4, 5))
    codes[1, 1:] = 21
    cls, tokens, inside = tiny().encode(codes)
    assert torch.equal(tiny(out_type='cls_token')(codes)[0], cls)
    mean = tiny(out_type='avg_featmap')(codes)[0]
    torch.testing.assert_close(mean[1], tokens[1, :20].mean(0))
    assert inside.sum(1).tolist() == [60, 20]
    featmap = tiny(out_type='featmap')(codes)[0]
    assert featmap.shape == (2, 32, 3, 4, 5)
    assert torch.equal(featmap[0, :, 1, 2, 3], tokens[0, 1 * 20 + 2 * 5 + 3])


def test_position_tables_of_another_size_are_interpolated_linearly():
    small, large = tiny(), tiny(grid_size=(3, 8, 10))
    large.load_state_dict(small.state_dict())
    rows = small.pos_embed.rows
    # at half the distance: the quarter points between neighbors
    torch.testing.assert_close(large.pos_embed.rows[1], 0.75 * rows[0] + 0.25 * rows[1])
    torch.testing.assert_close(large.pos_embed.rows[0], rows[0])
    assert torch.equal(large.pos_embed.time, small.pos_embed.time)
    assert resize_table(rows, 4) is rows


def test_recomputed_activations_give_the_same_gradients():
    gradients = []
    for with_cp in (False, True):
        encoder = tiny(with_cp=with_cp, drop_rate=0.0, attn_drop_rate=0.0).train()
        encoder(torch.arange(60).view(1, 3, 4, 5) % 20)[0].square().sum().backward()
        gradients.append(encoder.blocks[0].steps[1].qkv['H'].weight.grad)
    torch.testing.assert_close(*gradients)


def test_wrong_input_and_arguments_are_refused():
    encoder = tiny()
    with pytest.raises(ValueError, match='set tokenizer= to give it pixels'):
        encoder(torch.zeros(1, 3, 3, 32, 32))
    with pytest.raises(ValueError, match=r'grid of \(3, 4, 4\), but the encoder is made for'):
        encoder(torch.zeros(1, 3, 4, 4, dtype=torch.long))
    with pytest.raises(ValueError, match="attention='T' must be one of joint"):
        tiny(attention='T')
    with pytest.raises(ValueError, match='num_heads=3 must be divisible by the 2 parallel'):
        tiny(arch=dict(embed_dims=30, depth=1, num_heads=3))
    with pytest.raises(ValueError, match='must have embed_dims, depth and num_heads'):
        tiny(arch=dict(embed_dims=32))


def test_weights_of_another_encoder_are_refused():
    encoder = tiny()
    with pytest.raises(ValueError, match='embedding.weight has shape .*25, 32.*needs .*30, 32'):
        tiny(num_codes=25).load_state_dict(encoder.state_dict(), strict=False)
    with pytest.raises(ValueError, match='blocks.2.steps.0.qkv.T.weight is not in it'):
        tiny(arch=dict(TINY, depth=3)).load_state_dict(encoder.state_dict(), strict=False)


def test_pixels_go_through_the_tokenizer(tmp_path):
    centers = torch.rand(20, 48, generator=torch.Generator().manual_seed(0))
    torch.save(dict(state_dict=dict(centers=centers)), tmp_path / 'codebook.pth')
    tokenizer = dict(type='PatchTokenizer', checkpoint=str(tmp_path / 'codebook.pth'))
    encoder = tiny(tokenizer=tokenizer)
    clip = torch.randn(2, 3, 3, 16, 20)
    codes = encoder.tokenizer(clip)
    assert codes.shape == (2, 3, 4, 5)
    assert torch.equal(encoder(clip)[0], encoder(codes)[0])
    assert torch.equal(encoder(clip[:, :, 0])[0], encoder(codes[:, :1])[0])
    with pytest.raises(ValueError, match='num_codes=30, but the tokenizer has 20'):
        tiny(tokenizer=tokenizer, num_codes=30)
