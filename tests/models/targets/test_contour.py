import pytest
import torch

from bimm_mm.models import EdgeContourTarget
from bimm_mm.models.targets.base import IMAGENET_MEAN, IMAGENET_STD


def normalized(luminance, mean=IMAGENET_MEAN, std=IMAGENET_STD):
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (mean, std))
    return ((luminance * 255 - mean) / std)[None]


def square(low=0.3, high=0.7):
    """A square of rows and columns 8 to 23 of 32."""
    image = torch.full((32, 32), low)
    image[8:24, 8:24] = high
    return image


def contour_image(luminance, **kwargs):
    target = EdgeContourTarget(patch_size=(1, 8, 8), **kwargs)
    x = normalized(luminance)
    return target(x)[0].view(4, 4, 8, 8).permute(0, 2, 1, 3).reshape(32, 32)


def test_values_lie_between_0_and_1():
    result = contour_image(torch.rand(32, 32))
    assert result.min() == 0 and 0.5 < result.max() <= 1


@pytest.mark.parametrize('luminance', [0.0, 0.4, 1.0])
def test_nothing_in_a_flat_image(luminance):
    assert (contour_image(torch.full((32, 32), luminance)) == 0).all()


def test_a_gentle_slope_is_no_contour():
    assert (contour_image(torch.linspace(0.2, 0.5, 32).expand(32, 32)) == 0).all()


def test_the_outline_of_a_square_one_pixel_wide():
    result = contour_image(square())
    side = result[12:20]  # rows through its middle
    assert (side[:, 7:9].sum(dim=1) == 1).all() and (side[:, 23:25].sum(dim=1) == 1).all()
    assert (side.sum(dim=1) == 2).all()
    assert torch.equal(side, result.T[12:20])  # top and bottom as left and right
    outside, inside = result.clone(), result[10:22, 10:22]
    outside[6:26, 6:26] = 0
    assert (outside == 0).all() and (inside == 0).all()


def test_dark_on_bright_is_as_bright_on_dark():
    inverted = contour_image(square(0.7, 0.3))
    torch.testing.assert_close(inverted, contour_image(square()), rtol=0, atol=1e-3)


@pytest.mark.parametrize('step, value', [(0.02, 0.0), (0.1, 0.5), (0.3, 1.0)])
def test_soft_threshold_in_units_of_the_step(step, value):
    result = contour_image(square(0.4, 0.4 + step), low=0.05, high=0.15)
    assert result[16].max() == pytest.approx(value, abs=0.02)


def test_normalization_constants_do_not_matter():
    constants = (127.5, 127.5, 127.5), (20.0, 60.0, 127.5)
    other = EdgeContourTarget(patch_size=(1, 8, 8), mean=constants[0], std=constants[1])(
        normalized(square(), *constants)
    )
    own = EdgeContourTarget(patch_size=(1, 8, 8))(normalized(square()))
    torch.testing.assert_close(other, own, rtol=0, atol=1e-3)


def test_clips_frame_by_frame():
    x = torch.randn(2, 3, 4, 16, 16)
    frames = [EdgeContourTarget(patch_size=(1, 8, 8))(x[:, :, t]) for t in range(4)]
    wanted = torch.stack(frames, dim=1).view(2, 2, 2, 4, 64).transpose(2, 3).reshape(2, 8, 128)
    assert torch.equal(EdgeContourTarget(patch_size=(2, 8, 8))(x), wanted)


@pytest.mark.parametrize('low, high', [(0.2, 0.1), (-0.1, 0.1), (0.1, 0.1)])
def test_thresholds_must_increase(low, high):
    with pytest.raises(ValueError, match=f'low={low} must be at least 0 and less than high={high}'):
        EdgeContourTarget(low=low, high=high)
