import math

import pytest
import torch
from matplotlib.colors import rgb_to_hsv

from bimm_mm.models import BaseTarget, EdgeContourTarget, GaborTarget, MotionTarget, PixelTarget
from bimm_mm.models.layers import ids_to_mask, scatter_tokens
from bimm_mm.visualization.views import (
    HIDDEN,
    GaborView,
    TargetView,
    denormalize,
    view_of,
)

MEAN = torch.tensor([120.0, 110.0, 100.0])
STD = torch.tensor([50.0, 60.0, 70.0])
PATCH = (2, 8, 8)


def clip(seed=0, frames=4, size=(16, 24)):
    """Smooth clips within the range of 8-bit pixels, normalized: (2, 3, T, H, W)."""
    noise = torch.rand(2, 3, frames, *size, generator=torch.Generator().manual_seed(seed))
    return (noise * 255 - MEAN.view(3, 1, 1, 1)) / STD.view(3, 1, 1, 1)


def shown(target, x):
    """The maps of a target, and its view."""
    view = view_of(target, MEAN, STD)
    return view.maps(target(x), x), view


def made(cls, **kwargs):
    return cls(patch_size=PATCH, mean=MEAN.tolist(), std=STD.tolist(), **kwargs)


@pytest.mark.parametrize('normalize', ['patch', 'channel', 'none'])
def test_pixels_are_restored_with_the_statistics_of_the_true_patch(normalize):
    x = clip()
    maps, view = shown(made(PixelTarget, normalize=normalize), x)
    torch.testing.assert_close(maps, denormalize(x, MEAN, STD), atol=1e-4, rtol=0)
    assert maps.min() > -1e-4 and maps.max() < 1 + 1e-4
    assert ('mean and variance' in view.note) == (normalize != 'none')


def test_contours_keep_their_values():
    x = clip()
    target = made(EdgeContourTarget)
    maps, _ = shown(target, x)
    frames = target.luminance(x).flatten(0, 1)[:, None]
    assert torch.equal(maps[:, 0].flatten(0, 1), target.contours(frames)[:, 0])


@pytest.mark.parametrize(('scale', 'power'), [(1.0, 1.0), (3.0, 0.5)])
def test_motion_is_the_difference_in_gray_levels(scale, power):
    x = clip()
    maps, _ = shown(made(MotionTarget, scale=scale, power=power), x)
    levels = denormalize(x, MEAN, STD) * 255
    change = (levels[:, :, 1:] - levels[:, :, :-1]).abs().mean(dim=1)
    torch.testing.assert_close(maps[:, 0, :-1], change, atol=1e-2, rtol=1e-4)
    assert torch.equal(maps[:, 0, -1], maps[:, 0, -2])


def test_gabor_does_not_depend_on_scale_and_power():
    x = clip(size=(32, 32))
    plain, _ = shown(made(GaborTarget), x)
    scaled, _ = shown(made(GaborTarget, scale=7.0, power=0.5), x)
    assert plain.shape == (2, 32, 2, 8, 8)
    torch.testing.assert_close(plain, scaled, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize('index', range(8))
def test_gabor_hue_is_the_orientation_and_brightness_the_amplitude(index):
    angle = math.pi * index / 8
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing='ij')
    wave = ((x * math.cos(angle) + y * math.sin(angle)) * (2 * math.pi / 9)).sin()
    levels = (127 + 50 * wave).expand(1, 3, 2, 64, 64)
    grating = (levels - MEAN.view(3, 1, 1, 1)) / STD.view(3, 1, 1, 1)
    maps, view = shown(made(GaborTarget), grating)
    inside = maps[..., 5:11, 5:11]
    assert inside.amax(dim=1).mean() == pytest.approx(50 / 255, rel=0.1)
    red, green, blue = view.colors(inside, 50 / 255).reshape(-1, 3).mean(axis=0)
    hue, _, value = rgb_to_hsv((red, green, blue))
    assert abs((hue - index / 8 + 0.5) % 1 - 0.5) < 0.03
    assert value > 0.9


@pytest.mark.parametrize('cls', [GaborTarget, EdgeContourTarget, MotionTarget, PixelTarget])
def test_what_has_no_value_is_gray_and_nothing_else(cls):
    x = clip(size=(16, 32))
    target = made(cls)
    view = view_of(target, MEAN, STD)
    values = target(x)
    grid = (2, 2, 4)
    ids = torch.tensor([[0, 5, 13], [2, 9, 15]])
    some = scatter_tokens(values.gather(1, ids[..., None].expand(-1, -1, values.shape[2])), ids, 16)
    maps = view.maps(values, x)
    limit = view.limit(maps)
    whole, part = view.colors(maps, limit), view.colors(view.maps(some, x), limit)
    mask = ids_to_mask(ids, grid)
    for axis in range(3):  # to the resolution of the maps
        mask = mask.repeat_interleave(part.shape[axis + 1] // grid[axis], dim=axis + 1)
    mask = mask.numpy()
    assert (part[mask] == whole[mask]).all()
    assert (part[~mask] == HIDDEN).all()
    assert whole.min() >= 0 and whole.max() <= 1


def test_a_subclass_is_shown_as_its_parent_and_an_unknown_target_by_its_strength():
    class OtherGabor(GaborTarget):
        pass

    class Anything(BaseTarget):
        name = 'anything'
        out_dims = 2

    assert isinstance(view_of(made(OtherGabor), MEAN, STD), GaborView)
    view = view_of(made(Anything), MEAN, STD)
    assert type(view) is TargetView and view.title == 'anything'
    values = torch.tensor([3.0, 4.0]).expand(2, 12, 2)
    maps = view.maps(values, clip())
    assert maps.shape == (2, 1, 2, 2, 3)
    torch.testing.assert_close(maps, torch.full_like(maps, math.sqrt(12.5)))


def test_a_still_clip_has_a_limit_above_zero():
    x = clip()[:, :, :1].expand(-1, -1, 4, -1, -1)
    maps, view = shown(made(MotionTarget), x)
    limit = view.limit(maps)
    assert limit > 0
    assert not view.colors(maps, limit).max() > 0.02  # black all over
