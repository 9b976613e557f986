import math

import pytest
import torch

from bimm_mm.models import GaborTarget
from bimm_mm.models.targets.base import IMAGENET_MEAN, IMAGENET_STD

WAVELENGTHS = (4, 6, 9, 13)


def gray(luminance):
    """(H, W) in [0, 1] to (1, 3, H, W), normalized."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    return ((luminance * 255 - mean) / std)[None]


def grating(wavelength, angle, amplitude, phase=0.7, size=64):
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing='ij')
    wave = x * math.cos(angle) + y * math.sin(angle)
    return gray(0.5 + amplitude * torch.cos(2 * math.pi / wavelength * wave + phase))


def magnitudes(x):
    """Of the token in the middle: (wavelengths, orientations, 4, 4)."""
    target = GaborTarget(scale=1.0, power=1.0)
    return target(x)[0].view(4, 4, len(WAVELENGTHS), 8, 4, 4)[1, 1]


@pytest.mark.parametrize('orientation', [0, 1, 4, 6])
@pytest.mark.parametrize('index, wavelength', [*enumerate(WAVELENGTHS)])
def test_a_grating_gives_its_amplitude_in_its_channel_and_at_most_six_tenths_elsewhere(
    index, wavelength, orientation
):
    result = magnitudes(grating(wavelength, orientation * math.pi / 8, 0.3))
    own = result[index, orientation].clone()
    torch.testing.assert_close(own, torch.full((4, 4), 0.3), rtol=0.02, atol=0)
    result[index, orientation] = 0
    assert result.max() < 0.6 * 0.3


def test_magnitude_depends_on_neither_phase_nor_sign_of_contrast():
    reference = magnitudes(grating(6, 0, 0.3))
    for other in (grating(6, 0, 0.3, phase=2.0), grating(6, 0, -0.3)):
        own = magnitudes(other)[1, 0]
        torch.testing.assert_close(own, reference[1, 0], rtol=0.02, atol=1e-3)
    noise = torch.rand(64, 64)
    inverted = magnitudes(gray(1 - noise))
    torch.testing.assert_close(magnitudes(gray(noise)), inverted, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize('luminance', [0.0, 0.3, 1.0])
def test_a_flat_image_gives_nothing_up_to_its_borders(luminance):
    result = GaborTarget(scale=1.0)(gray(torch.full((32, 32), luminance)))
    torch.testing.assert_close(result, torch.zeros_like(result), rtol=0, atol=1e-5)


def test_cells_are_in_their_place():
    """Half of the image is a grating; only cells there answer to its wavelength."""
    x = grating(4, 0, 0.3, size=32)
    x[..., 16:] = gray(torch.full((1, 1), 0.5))[..., :1]
    channel = GaborTarget(scale=1.0, power=1.0)(x)[0].view(2, 2, 4, 8, 4, 4)[:, :, 0, 0]
    rows = channel.permute(0, 2, 1, 3).reshape(8, 8)  # of the whole image
    assert (rows[:, 1:3] > 0.25).all()
    assert (rows[:, 6:] < 0.02).all()


def test_a_tubelet_gets_the_mean_over_its_frames():
    x = torch.randn(2, 3, 4, 16, 16)
    frames = torch.stack([GaborTarget(scale=1.0, power=1.0)(x[:, :, t]) for t in range(4)], dim=1)
    wanted = frames.view(2, 2, 2, 1, -1).mean(dim=2).flatten(1, 2)
    result = GaborTarget(patch_size=(2, 16, 16), scale=1.0, power=1.0)(x)
    torch.testing.assert_close(result, wanted, rtol=1e-4, atol=1e-5)


def test_power_compresses_before_the_scale():
    x = torch.randn(1, 3, 16, 16)
    plain = GaborTarget(scale=1.0, power=1.0)(x)
    result = GaborTarget(scale=3.0, power=0.5)(x)
    torch.testing.assert_close(result, 3 * plain.sqrt())


def test_whole_grids_for_maskfeat():
    target = GaborTarget(scale=1.0, power=1.0)
    assert target(torch.randn(2, 3, 224, 224)).shape == (2, 196, target.out_dims)
    assert target.out_dims == 4 * 8 * 16


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(cell=3), 'cell=3 must be even and divide the patch, 16x16'),
        (dict(cell=6), 'cell=6 must be even and divide'),
        (dict(wavelengths=(1, 4)), r'wavelengths=\(1, 4\) must be at least 2'),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        GaborTarget(**kwargs)
