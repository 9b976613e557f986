import pytest
import torch
from torch import nn

from bimm_mm.models import LinearDecoder, TransformerDecoder
from bimm_mm.models.layers import sincos_position_embedding

GRIDS = [(1, 3, 4), (2, 3, 4)]


def linear(grid, **kwargs):
    settings = dict(embed_dims=12, predict='masked') | kwargs
    return LinearDecoder(8, 10, grid, video=grid[0] > 1, **settings)


def transformer(grid, **kwargs):
    kwargs = dict(embed_dims=12, depth=1, num_heads=2) | kwargs
    return TransformerDecoder(8, 10, grid, video=grid[0] > 1, **kwargs)


def split(grid, batch=2, keep=5):
    count = grid[0] * grid[1] * grid[2]
    order = torch.stack([torch.randperm(count) for _ in range(batch)])
    return order[:, :keep].sort().values, order[:, keep:].sort().values


@pytest.fixture(params=[(kind, grid) for kind in (linear, transformer) for grid in GRIDS])
def decoder(request):
    kind, grid = request.param
    torch.manual_seed(0)
    return kind(grid).eval()


def test_a_prediction_for_each_masked_token(decoder):
    keep, mask = split(decoder.grid_size)
    assert decoder(torch.randn(2, 1 + 5, 8), keep, mask).shape == (*mask.shape, 10)
    assert decoder(torch.randn(2, 5, 8), keep, mask).shape == (*mask.shape, 10)  # no class token


def test_every_masked_token_hears_of_every_visible_one_and_of_the_class_token(decoder):
    for parameter in decoder.parameters():  # the mixing over time starts as the identity
        torch.nn.init.normal_(parameter, std=0.3)
    keep, mask = split(decoder.grid_size)
    x = torch.randn(2, 6, 8)
    before = decoder(x, keep, mask)
    for token in range(6):
        other = x.clone()
        other[0, token] += 1
        changed = (decoder(other, keep, mask) != before).any(dim=2)
        assert changed[0].all() and not changed[1].any()


def test_masked_tokens_are_told_apart(decoder):
    keep, mask = split(decoder.grid_size)
    result = decoder(torch.randn(2, 6, 8), keep, mask)[0]
    assert (torch.cdist(result, result) + torch.eye(len(result))).min() > 1e-3


def test_predictions_follow_the_order_of_the_masked_tokens(decoder):
    keep, mask = split(decoder.grid_size)
    x = torch.randn(2, 6, 8)
    result, turned = decoder(x, keep, mask), decoder(x, keep, mask.flip(1))
    torch.testing.assert_close(turned, result.flip(1), rtol=1e-4, atol=1e-5)


def test_order_of_visible_tokens_does_not_matter(decoder):
    keep, mask = split(decoder.grid_size)
    x = torch.randn(2, 6, 8)
    turned = torch.cat([x[:, :1], x[:, 1:].flip(1)], dim=1)
    result = decoder(turned, keep.flip(1), mask)
    torch.testing.assert_close(result, decoder(x, keep, mask), rtol=1e-4, atol=1e-5)


def test_positions_matter(decoder):
    keep, mask = split(decoder.grid_size)
    x = torch.randn(2, 6, 8)
    elsewhere = torch.cat([mask[:, :1], keep[:, 1:]], dim=1)
    masked = torch.cat([keep[:, :1], mask[:, 1:]], dim=1)
    moved = decoder(x, elsewhere, masked)[:, 1:]
    assert not torch.allclose(moved, decoder(x, keep, mask)[:, 1:], atol=1e-4)


@pytest.mark.parametrize('grid', GRIDS)
def test_the_linear_decoder_is_linear(grid):
    """Superposition, for an affine map: f(a + b - c) = f(a) + f(b) - f(c)."""
    decoder = linear(grid)
    keep, mask = split(grid)
    a, b, c = torch.randn(3, 2, 6, 8)
    f = [decoder(x, keep, mask) for x in (a + b - c, a, b, c)]
    torch.testing.assert_close(f[0], f[1] + f[2] - f[3], rtol=1e-4, atol=1e-4)


def test_the_linear_decoder_holds_linear_layers_only():
    kinds = {type(module) for module in linear((2, 3, 4)).modules()}
    assert kinds == {LinearDecoder, nn.Linear}


def test_predicting_visible_tokens_from_themselves_alone():
    decoder = linear((1, 3, 4), predict='visible')
    keep, mask = split((1, 3, 4))
    x = torch.randn(2, 6, 8)
    result = decoder(x, keep, mask)
    assert (decoder.predicts, result.shape) == ('visible', (2, 5, 10))
    torch.testing.assert_close(result, decoder.head(decoder.embed(x[:, 1:])))
    assert 'mask_token' not in decoder.state_dict()


def test_every_parameter_of_a_decoder_is_used(decoder):
    keep, mask = split(decoder.grid_size)
    decoder(torch.randn(2, 6, 8), keep, mask).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in decoder.parameters())


def test_head_of_the_transformer_decoder():
    mlp, plain = transformer((1, 2, 2)), transformer((1, 2, 2), mlp_head=False)
    assert [type(m) for m in mlp.head] == [nn.Linear, nn.GELU, nn.Linear]
    assert [type(m) for m in plain.head] == [nn.Linear]


def test_unknown_prediction():
    with pytest.raises(ValueError, match="predict='all' must be 'visible' or 'masked'"):
        linear((1, 2, 2), predict='all')


def test_a_decoder_can_have_the_positions_of_videomae():
    grid, dims = (2, 3, 4), 12
    decoder = transformer(grid, time_positions='sequence')
    assert torch.equal(decoder.pos_embed, sincos_position_embedding(dims, grid, 'sequence'))
    assert not torch.equal(decoder.pos_embed, transformer(grid).pos_embed)
