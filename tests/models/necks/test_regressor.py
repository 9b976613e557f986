"""CAE's regressor: what it leaves alone, what it does not depend on, and what it is made of."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS

from bimm_mm.models import RegressorDecoder
from bimm_mm.models.layers.cross_attention import RegressorBlock

GRID = (2, 4, 4)


def make(in_dims=24, **settings):
    torch.manual_seed(0)
    decoders = [dict(type='LatentDecoder', depth=1, num_heads=2), dict(type='IdentityDecoder')]
    settings = dict(embed_dims=12, depth=4, num_heads=2, layer_scale=1.0) | settings
    dims = (7, settings['embed_dims'])
    return RegressorDecoder(decoders, in_dims, dims, GRID, 1, video=True, **settings)


@pytest.fixture
def masks():
    order = torch.stack([torch.randperm(32) for _ in range(2)])
    return order[:, :8].sort().values, order[:, 8:].sort().values


def test_every_decoder_reads_the_same_latents(masks):
    neck, x = make(), torch.randn(2, 8, 24)
    assert len(neck.blocks) == 4
    values, latents = neck([x], *masks)
    assert values.shape == (2, 24, 7) and latents.shape == (2, 24, 12)
    assert torch.equal(latents, neck.regress(x, *masks))
    assert neck.predicted_ids(*masks) == (masks[1], masks[1])


def test_visible_latents_are_never_updated(masks, monkeypatch):
    seen = []
    forward = RegressorBlock.forward
    monkeypatch.setattr(
        RegressorBlock,
        'forward',
        lambda self, x, visible, *rest: seen.append(visible) or forward(self, x, visible, *rest),
    )
    neck, x = make(), torch.randn(2, 8, 24)
    neck([x], *masks)
    assert len(seen) == 4 and all(torch.equal(part, neck.project(x)) for part in seen)


def test_the_order_of_visible_tokens_does_not_matter_if_their_positions_go_along(masks):
    neck, x = make(), torch.randn(2, 8, 24)
    for parameter in neck.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    order = torch.randperm(8)
    wanted = neck([x], *masks)
    found = neck([x[:, order]], masks[0][:, order], masks[1])
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    shuffled = neck([x[:, order]], *masks)  # without their positions, it does
    assert (shuffled[0] - wanted[0]).abs().max() > 1e-3


def test_a_class_token_is_dropped_and_other_counts_are_refused(masks):
    neck, x = make(), torch.randn(2, 9, 24)
    assert torch.equal(neck([x], *masks)[0], neck([x[:, 1:]], *masks)[0])
    with pytest.raises(ValueError, match="got 32 tokens, but needs the 8 .* masked='dropped'"):
        neck([torch.randn(2, 32, 24)], *masks)


def test_a_block_is_caes(masks):
    """Written out: three norms before attention, the fourth on the residual path."""
    torch.manual_seed(0)
    block = RegressorBlock(12, 2, layer_scale=0.3)
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    x, visible, pos_x, pos_visible = (torch.randn(2, n, 12) for n in (5, 3, 5, 3))
    memory, positions = torch.cat([visible, x], 1), torch.cat([pos_visible, pos_x], 1)
    attn = block.attn
    query = attn.query(block.norm_query(x + pos_x))
    key = attn.key(block.norm_key(memory + positions))
    value = attn.value(block.norm_value(memory))
    heads = []
    for part in (slice(0, 6), slice(6, 12)):
        weights = (query[..., part] @ key[..., part].mT / 6**0.5).softmax(dim=-1)
        heads.append(weights @ value[..., part])
    x = block.norm_mlp(x + block.scale_attn * attn.proj(torch.cat(heads, dim=-1)))
    fc1, _, fc2 = block.mlp
    wanted = x + block.scale_mlp * fc2(F.gelu(fc1(x)))
    inputs = memory[:, 3:], visible, pos_x, pos_visible
    torch.testing.assert_close(block(*inputs), wanted, rtol=1e-5, atol=1e-5)
    assert attn.key.bias is None and attn.query.bias is not None


def test_a_regressor_as_wide_as_the_encoder_needs_no_projection():
    assert isinstance(make(in_dims=12).project, torch.nn.Identity)
    assert not [key for key in make(in_dims=12).state_dict() if key.startswith('project')]


def test_output_projections_are_scaled_by_depth():
    neck = make(embed_dims=48, num_heads=4, in_dims=48)
    spreads = [block.attn.proj.weight.std().item() for block in neck.blocks]
    for number, spread in enumerate(spreads, start=1):
        assert spread == pytest.approx((1 / 48 / (2 * number)) ** 0.5, rel=0.1)  # Xavier's


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(num_stages=3), 'backbone has 3: set stage_ends'),
        (dict(out_dims=(7,)), 'decoders: 2 of them for 1 targets'),
        (dict(out_dims=(7, 9)), 'out_dims=9 of the target must be 12'),
    ],
)
def test_bad_configs(settings, message):
    decoders = [dict(type='LatentDecoder', depth=0), dict(type='IdentityDecoder')]
    config = dict(
        type='RegressorDecoder',
        decoders=decoders,
        in_dims=12,
        out_dims=(7, 12),
        grid_size=GRID,
        num_stages=1,
        embed_dims=12,
        num_heads=2,
    )
    with pytest.raises((ValueError, TypeError), match=message):
        MODELS.build(config | settings)
