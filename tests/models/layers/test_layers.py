import math

import pytest
import torch
from torch import nn

from bimm_mm.models.layers import (
    Attention,
    PatchEmbed,
    TransformerBlock,
    cut_windows,
    ids_to_mask,
    join_windows,
    patchify,
    resize_position_embedding,
    scatter_tokens,
    sincos_position_embedding,
    unpatchify,
)

# patches -----------------------------------------------------------------------------------------


def test_patches_are_cut_in_token_order_and_flattened_as_convolution_weights_are():
    x = torch.randn(2, 3, 4, 6, 8)
    patches = patchify(x, (2, 3, 4)).view(2, 2, 2, 2, -1)
    for t in range(2):
        for h in range(2):
            for w in range(2):
                cube = x[:, :, 2 * t : 2 * t + 2, 3 * h : 3 * h + 3, 4 * w : 4 * w + 4]
                assert torch.equal(patches[:, t, h, w], cube.flatten(1))


def test_patches_by_index_are_those_patches():
    x = torch.randn(2, 3, 4, 6, 8)
    ids = torch.stack([torch.randperm(16)[:5], torch.randperm(16)[:5]])
    everything = patchify(x, (2, 3, 2))
    picked = patchify(x, (2, 3, 2), ids)
    assert torch.equal(
        picked, torch.stack([row[i] for row, i in zip(everything, ids, strict=True)])
    )


@pytest.mark.parametrize('patch_size', [(1, 4, 4), (2, 8, 8), (2, 4, 8), (4, 16, 2)])
def test_unpatchify_is_the_inverse_of_patchify(patch_size):
    x = torch.randn(2, 5, 4, 16, 24)
    grid = tuple(s // p for s, p in zip(x.shape[2:], patch_size, strict=True))
    assert torch.equal(unpatchify(patchify(x, patch_size), patch_size, grid), x)


@pytest.mark.parametrize('shape', [(1, 5, 64), (1, 6, 63)])
def test_unpatchify_says_which_shape_fits(shape):
    with pytest.raises(ValueError, match=r'\(B, 6, n \* 64\)'):
        unpatchify(torch.zeros(shape), (1, 8, 8), (1, 2, 3))


def test_spread_puts_tokens_at_their_places():
    ids = torch.tensor([[0, 3], [1, 2]])
    values = torch.tensor([[[1.0], [2.0]], [[3.0], [4.0]]])
    spread = scatter_tokens(values, ids, 4)[..., 0]
    expected = [[1.0, math.nan, math.nan, 2.0], [math.nan, 3.0, 4.0, math.nan]]
    torch.testing.assert_close(spread, torch.tensor(expected), equal_nan=True)
    mask = ids_to_mask(ids, (1, 2, 2))
    assert torch.equal(mask.flatten(1), ~spread.isnan())


@pytest.mark.parametrize('video', [False, True])
def test_patch_embedding_is_the_convolution_that_it_holds(video):
    embed = PatchEmbed(3, 16, (2 if video else 1, 4, 4), video)
    assert isinstance(embed.projection, nn.Conv3d if video else nn.Conv2d)
    x = torch.randn(2, 3, 4 if video else 1, 8, 12)
    wanted = embed.projection(x if video else x[:, :, 0]).flatten(2).transpose(1, 2)
    torch.testing.assert_close(embed(x), wanted, rtol=1e-5, atol=1e-5)
    ids = torch.tensor([[0, 5], [3, 2]])
    picked = wanted.gather(1, ids[..., None].expand(-1, -1, 16))
    torch.testing.assert_close(embed(x, ids), picked, rtol=1e-5, atol=1e-5)


# positions ---------------------------------------------------------------------------------------


def test_image_positions_follow_mae():
    """MAE: first half of the channels columns, second half rows; sines before cosines."""
    dims, height, width = 16, 3, 5
    embedding = sincos_position_embedding(dims, (height, width))
    assert embedding.shape == (1, 1, height, width, dims)
    for h in range(height):
        for w in range(width):
            angles = [[p / 10000 ** (i / 4) for i in range(4)] for p in (w, h)]
            wanted = [f(a) for axis in angles for f in (math.sin, math.cos) for a in axis]
            torch.testing.assert_close(embedding[0, 0, h, w], torch.tensor(wanted))


def test_clip_positions_are_those_of_the_image_and_a_code_of_the_time():
    dims, grid = 24, (4, 3, 5)
    embedding = sincos_position_embedding(dims, grid)
    assert embedding.shape == (1, *grid, dims)
    image = sincos_position_embedding(dims, grid[1:])
    torch.testing.assert_close(embedding.mean(1, keepdim=True), image)
    code = (embedding - image)[0]
    torch.testing.assert_close(code, code[:, :1, :1].expand(*grid, dims))
    angles = [[t / 10000 ** (i / 12) for i in range(12)] for t in range(4)]
    wanted = torch.tensor([[f(a) for f in (math.sin, math.cos) for a in row] for row in angles])
    torch.testing.assert_close(code[:, 0, 0], wanted - wanted.mean(0))
    one = sincos_position_embedding(dims, (1, 3, 5))
    torch.testing.assert_close(one, image)
    timeless = sincos_position_embedding(dims, grid, 'none')
    assert torch.equal(timeless, image.expand(1, *grid, dims))


def test_unknown_way_to_hold_the_time():
    with pytest.raises(
        ValueError, match="time='learned' must be 'added', 'divided', 'sequence' or"
    ):
        sincos_position_embedding(24, (4, 3, 5), 'learned')


def test_clip_positions_can_be_divided_among_the_axes():
    embedding = sincos_position_embedding(20, (4, 3, 5), 'divided')  # 6 for w and h, 8 for t
    assert embedding.shape == (1, 4, 3, 5, 20)
    columns, rows, frames = embedding[0].split([6, 6, 8], dim=-1)
    assert (columns == columns[:1, :1]).all()
    assert (rows == rows[:1, :, :1]).all()
    assert (frames == frames[:, :1, :1]).all()
    tokens = embedding.flatten(0, 3)
    assert (torch.cdist(tokens, tokens) + 10 * torch.eye(60)).min() > 0.5


def test_clip_positions_can_be_those_of_videomae():
    """Numbers in the order of the tokens; sines at even channels, cosines at odd ones."""
    dims, grid = 8, (2, 3, 5)
    tokens = sincos_position_embedding(dims, grid, 'sequence').view(-1, dims)
    for number, token in enumerate(tokens):
        angles = [number / 10000 ** (2 * pair / dims) for pair in range(dims // 2)]
        wanted = [f(angle) for angle in angles for f in (math.sin, math.cos)]
        torch.testing.assert_close(token, torch.tensor(wanted))
    image = sincos_position_embedding(dims, grid[1:], 'sequence')  # of an image: MAE's
    assert torch.equal(image, sincos_position_embedding(dims, grid[1:]))


@pytest.mark.parametrize('dims, grid', [(4, (2, 2, 2)), (7, (2, 2)), (2, (2, 2))])
def test_positions_need_an_even_width_with_room_for_each_axis(dims, grid):
    with pytest.raises(ValueError, match=f'embed_dims={dims} .* at least {2 * len(grid)}'):
        sincos_position_embedding(dims, grid)


def test_positions_of_the_same_grid_are_not_touched():
    embedding = sincos_position_embedding(12, (2, 3, 4))
    assert resize_position_embedding(embedding, (2, 3, 4)) is embedding


@pytest.mark.parametrize('grid', [(2, 6, 8), (4, 3, 4), (1, 5, 3)])
def test_positions_of_another_grid_are_interpolated_along_each_axis(grid):
    """A linear ramp stays a ramp, inside of the borders that interpolation repeats."""
    axes = torch.meshgrid(*(torch.arange(float(n)) for n in (2, 3, 4)), indexing='ij')
    ramps = torch.stack(axes, dim=-1)[None]
    resized = resize_position_embedding(ramps, grid, 'bilinear')
    assert resized.shape == (1, *grid, 3)
    for axis, (old, new) in enumerate(zip((2, 3, 4), grid, strict=True)):
        wanted = ((torch.arange(new) + 0.5) * old / new - 0.5).clamp(0, old - 1)
        line = resized[0].movedim(axis, 0).flatten(1, 2)[..., axis]
        torch.testing.assert_close(line, wanted[:, None].expand_as(line))


# attention ---------------------------------------------------------------------------------------


def test_attention_agrees_with_torchs_multihead_attention():
    ours, theirs = Attention(12, 3), nn.MultiheadAttention(12, 3, batch_first=True)
    theirs.in_proj_weight, theirs.in_proj_bias = ours.qkv.weight, ours.qkv.bias
    theirs.out_proj.weight, theirs.out_proj.bias = ours.proj.weight, ours.proj.bias
    x = torch.randn(2, 7, 12)
    torch.testing.assert_close(ours(x), theirs(x, x, x)[0], rtol=1e-5, atol=1e-6)


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match='embed_dims=10 is not a multiple of num_heads=3'):
        Attention(10, 3)


def test_windows_join_to_what_was_cut():
    x = torch.randn(2, 3 * 5 * 7, 4)
    windows, inside = cut_windows(x, (3, 5, 7), 4)
    assert windows.shape == (2 * 4, 3 * 16, 4)
    assert inside.shape == (4, 48)
    assert inside.sum() == 3 * 5 * 7
    assert torch.equal(join_windows(windows, (3, 5, 7), 4), x)


@pytest.mark.parametrize('window', [5, 8])
@pytest.mark.parametrize('class_tokens', [0, 1])
def test_a_window_as_large_as_the_image_attends_globally(window, class_tokens):
    block = TransformerBlock(8, 2, window_size=window)
    x = torch.randn(2, class_tokens + 2 * 4 * 5, 8)
    windowed = block(x, (2, 4, 5))
    block.window_size = 0
    torch.testing.assert_close(windowed, block(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('grid, window', [((1, 4, 4), 2), ((2, 3, 5), 2)])
def test_tokens_attend_to_the_real_tokens_of_their_window_and_the_class_token(grid, window):
    """Also at the lower and right end, where windows are padded: (3, 5) is not a multiple of 2."""
    block = TransformerBlock(8, 2, window_size=window)
    nn.init.normal_(block.attn.qkv.bias)  # so that padding would be seen
    x = torch.randn(2, 1 + math.prod(grid), 8)
    t, h, w = torch.meshgrid(*(torch.arange(n) for n in grid), indexing='ij')
    window_of = ((h // window) * grid[2] + w // window).flatten()
    wanted, class_tokens = torch.empty_like(x), []
    for number in window_of.unique():
        members = 1 + (window_of == number).nonzero()[:, 0]
        attended = block.attn(torch.cat([x[:, :1], x[:, members]], dim=1))
        wanted[:, members] = attended[:, 1:]
        class_tokens.append(attended[:, 0])
    wanted[:, 0] = torch.stack(class_tokens).mean(dim=0)
    torch.testing.assert_close(block.attend(x, grid), wanted, rtol=1e-5, atol=1e-6)


def test_drop_path_leaves_out_whole_residual_branches_in_training_only():
    torch.manual_seed(0)
    block = TransformerBlock(8, 2, drop_path=0.5)
    x = torch.randn(64, 3, 8)
    block.eval()
    attended = block.attn(block.norm1(x))
    torch.testing.assert_close(block(x), x + attended + block.mlp(block.norm2(x + attended)))
    block.train()
    unchanged = (block(x) == x).flatten(1).all(dim=1).sum()
    assert 6 <= unchanged <= 28  # both branches are left out in a quarter of 64
