"""What holds for masks, patches, positions and targets of every size."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bimm_mm.models import (
    EdgeContourTarget,
    GaborTarget,
    MotionTarget,
    PixelTarget,
    RandomMasking,
    TubeMasking,
)
from bimm_mm.models.layers import (
    patchify,
    resize_position_embedding,
    sincos_position_embedding,
)

few = settings(max_examples=25, deadline=None, derandomize=True, database=None)
grids = st.tuples(st.integers(1, 5), st.integers(1, 7), st.integers(1, 7))
patches = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4))
seeds = st.integers(0, 2**31)


def noise(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# Masks --------------------------------------------------------------------------------------------


@few
@given(st.sampled_from([RandomMasking, TubeMasking]), st.floats(0.01, 0.99), grids, seeds)
def test_masks_are_exact_complete_and_disjoint_or_refused(kind, ratio, grid, seed):
    frames, area = grid[0], math.prod(grid[1:])
    positions, times = (area, frames) if kind is TubeMasking else (frames * area, 1)
    masked = math.floor(ratio * positions + 0.5)
    generator = torch.Generator().manual_seed(seed)
    if not 0 < masked < positions:
        with pytest.raises(ValueError, match='^ratio='):
            kind(ratio)(3, grid, generator=generator)
        return
    keep, mask = kind(ratio)(3, grid, generator=generator)
    assert keep.shape == (3, (positions - masked) * times)
    assert mask.shape == (3, masked * times)
    assert (keep.diff() > 0).all() and (mask.diff() > 0).all()
    everything = torch.cat([keep, mask], dim=1).sort().values
    assert torch.equal(everything, torch.arange(frames * area).expand(3, -1))
    if kind is TubeMasking:  # the same positions in every frame
        columns = keep.view(3, frames, -1) % area
        assert torch.equal(columns, columns[:, :1].expand_as(columns))


# Patches ------------------------------------------------------------------------------------------


def join_patches(tokens, channels, patch, grid):
    """The inverse of patchify, written another way: one patch after the other."""
    t, h, w = patch
    x = torch.empty(len(tokens), channels, *(p * g for p, g in zip(patch, grid, strict=True)))
    cells = tokens.view(len(tokens), -1, channels, t, h, w).unbind(1)
    for index, cell in enumerate(cells):
        frame, row = index // (grid[1] * grid[2]) * t, index // grid[2] % grid[1] * h
        column = index % grid[2] * w
        x[:, :, frame : frame + t, row : row + h, column : column + w] = cell
    return x


@few
@given(patches, grids, st.integers(1, 4), seeds)
def test_patches_can_be_joined_again(patch, grid, channels, seed):
    size = [p * g for p, g in zip(patch, grid, strict=True)]
    x = noise(seed, 2, channels, *size)
    tokens = patchify(x, patch)
    assert tokens.shape == (2, math.prod(grid), channels * math.prod(patch))
    assert torch.equal(join_patches(tokens, channels, patch, grid), x)


@few
@given(patches, grids, seeds)
def test_some_patches_are_those_of_all_in_the_order_asked_for(patch, grid, seed):
    size = [p * g for p, g in zip(patch, grid, strict=True)]
    x = noise(seed, 2, 3, *size)
    generator = torch.Generator().manual_seed(seed)
    ids = torch.stack([torch.randperm(math.prod(grid), generator=generator) for _ in x])
    ids = ids[:, : max(1, math.prod(grid) // 2)]
    everything = patchify(x, patch)
    wanted = torch.stack([row[i] for row, i in zip(everything, ids, strict=True)])
    assert torch.equal(patchify(x, patch, ids), wanted)


# Positions ----------------------------------------------------------------------------------------

spaces = st.one_of(grids, st.tuples(st.integers(1, 9), st.integers(1, 9)))


@few
@given(st.integers(1, 12), spaces)
def test_positions_are_different(half, grid):
    dims = 2 * half + 2 * len(grid)
    tokens = sincos_position_embedding(dims, grid).view(-1, dims)
    distances = torch.cdist(tokens, tokens, compute_mode='donot_use_mm_for_euclid_dist')
    distances.fill_diagonal_(1)
    assert distances.min() > 1e-3


@few
@given(st.integers(1, 12), spaces)
def test_divided_positions_are_different_and_of_one_length(half, grid):
    dims = 2 * half + 2 * len(grid)
    embedding = sincos_position_embedding(dims, grid, 'divided')
    assert embedding.shape == (1, *(1,) * (3 - len(grid)), *grid, dims)
    tokens = embedding.view(-1, dims)
    distances = torch.cdist(tokens, tokens, compute_mode='donot_use_mm_for_euclid_dist')
    distances.fill_diagonal_(1)
    assert distances.min() > 1e-3
    lengths = tokens.square().sum(1)  # a sine and a cosine for each two channels
    torch.testing.assert_close(lengths, torch.full_like(lengths, dims / 2))


@few
@given(st.sampled_from([1, 3, 4, 5, 7]), spaces)
def test_too_few_or_odd_dimensions_are_refused(dims, grid):
    if dims % 2 == 0 and dims >= 2 * len(grid):
        return
    with pytest.raises(ValueError, match=f'^embed_dims={dims} '):
        sincos_position_embedding(dims, grid)


@few
@given(grids, grids, st.sampled_from(['bicubic', 'bilinear']))
def test_positions_of_another_grid(grid, other, mode):
    embedding = sincos_position_embedding(12, grid)
    assert resize_position_embedding(embedding, grid, mode) is embedding
    resized = resize_position_embedding(embedding, other, mode)
    assert resized.shape == (1, *other, 12) and resized.dtype == embedding.dtype
    assert resized.isfinite().all()
    if mode == 'bilinear':  # an average stays within what it is taken of
        assert resized.abs().max() <= embedding.abs().max() + 1e-6
    constant = resize_position_embedding(torch.full_like(embedding, 0.7), other, mode)
    torch.testing.assert_close(constant, torch.full_like(constant, 0.7))


# Targets ------------------------------------------------------------------------------------------

targets = st.sampled_from([GaborTarget, EdgeContourTarget, PixelTarget, MotionTarget])
cubes = st.tuples(st.integers(1, 2), st.sampled_from([4, 8]), st.sampled_from([4, 8]))
small = st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 3))


def clip_for(patch, grid, seed):
    frames = max(2, patch[0] * grid[0])  # motion needs two
    grid = (frames // patch[0], *grid[1:])
    return noise(seed, 2, 3, *(p * g for p, g in zip(patch, grid, strict=True))), grid


@few
@given(targets, cubes, small, seeds)
def test_targets_have_their_shape_and_are_finite(kind, patch, grid, seed):
    x, grid = clip_for(patch, grid, seed)
    target = kind(patch_size=patch)
    result = target(x)
    assert result.shape == (2, math.prod(grid), target.out_dims)
    assert result.dtype == torch.float32 and result.isfinite().all()
    if kind is EdgeContourTarget:
        assert 0 <= result.min() and result.max() <= 1
    elif kind is not PixelTarget:
        assert result.min() >= 0
    else:  # each patch is normalized
        assert result.mean(2).abs().max() < 1e-4
        assert (result.var(2) <= 1 + 1e-4).all()
    flat = target(torch.full_like(x, x[0, 0, 0, 0, 0].item()))
    assert flat.abs().max() < 1e-2  # where nothing is, nothing is to be predicted


@few
@given(targets, cubes, small, seeds)
def test_targets_of_some_tokens_are_those_of_all(kind, patch, grid, seed):
    x, grid = clip_for(patch, grid, seed)
    generator = torch.Generator().manual_seed(seed)
    ids = torch.stack([torch.randperm(math.prod(grid), generator=generator) for _ in x])
    ids = ids[:, : max(1, math.prod(grid) // 2)]
    target = kind(patch_size=patch)
    wanted = torch.stack([row[i] for row, i in zip(target(x), ids, strict=True)])
    torch.testing.assert_close(target(x, ids), wanted, rtol=1e-5, atol=1e-5)


@few
@given(st.sampled_from([PixelTarget, MotionTarget]), cubes, small, seeds)
def test_a_shift_by_a_patch_shifts_what_is_local(kind, patch, grid, seed):
    x, (_, rows, columns) = clip_for(patch, grid, seed)
    target = kind(patch_size=patch)
    before = target(x).view(2, -1, rows, columns, target.out_dims)
    after = target(x.roll((patch[1], -patch[2]), dims=(3, 4)))
    after = after.view(2, -1, rows, columns, target.out_dims)
    torch.testing.assert_close(after, before.roll((1, -1), dims=(2, 3)), rtol=1e-5, atol=1e-5)


@few
@given(st.sampled_from([GaborTarget, EdgeContourTarget]), st.integers(1, 2), seeds)
def test_a_shift_by_a_patch_shifts_filters_away_from_the_border(kind, shift, seed):
    """A filter looks beyond its token: tokens whose surroundings moved along have moved along."""
    x = noise(seed, 1, 3, 1, 72, 72)
    target = kind(patch_size=(1, 8, 8))
    before = target(x).view(9, 9, -1)
    after = target(x.roll(8 * shift, dims=4)).view(9, 9, -1)
    inside = slice(3, 6)  # 24 pixels from either border
    torch.testing.assert_close(
        after[inside, 3 + shift : 6], before[inside, 3 : 6 - shift], rtol=1e-3, atol=1e-4
    )


@few
@given(cubes, small, seeds)
def test_motion_does_not_see_a_constant_and_grows_with_contrast(patch, grid, seed):
    x, _ = clip_for(patch, grid, seed)
    target = MotionTarget(patch_size=patch)
    torch.testing.assert_close(target(x + 0.5), target(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(target(2 * x), 2 * target(x))
