import pytest
import torch
from torch import nn

from bimm_mm.models import BaseTarget, EdgeContourTarget, GaborTarget, MotionTarget, PixelTarget
from bimm_mm.models.targets.base import IMAGENET_MEAN, IMAGENET_STD

TARGETS = [GaborTarget, EdgeContourTarget, PixelTarget, MotionTarget]


def normalized(rgb, mean=IMAGENET_MEAN, std=IMAGENET_STD):
    shape = (3, *(1,) * (rgb.dim() - 2))
    return (rgb * 255 - torch.tensor(mean).view(shape)) / torch.tensor(std).view(shape)


def test_luminance_is_that_of_the_image_whatever_normalizes_it():
    rgb = torch.rand(2, 3, 4, 8, 8)
    wanted = 0.299 * rgb[:, 0] + 0.587 * rgb[:, 1] + 0.114 * rgb[:, 2]
    for constants in [(IMAGENET_MEAN, IMAGENET_STD), ((127.5,) * 3, (10.0, 60.0, 127.5))]:
        target = BaseTarget((2, 4, 4), *constants)
        luminance = target.luminance(normalized(rgb, *constants))
        torch.testing.assert_close(luminance, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('kind', TARGETS)
@pytest.mark.parametrize('patch, ids', [((2, 8, 8), [[0, 5, 7], [6, 2, 1]])])
def test_targets_of_some_tokens_are_those_of_all_tokens_there(kind, patch, ids):
    target = kind(patch_size=patch)
    x, ids = torch.randn(2, 3, 4, 16, 16), torch.tensor(ids)
    everything, picked = target(x), target(x, ids)
    assert everything.shape == (2, 8, target.out_dims)
    wanted = torch.stack([row[i] for row, i in zip(everything, ids, strict=True)])
    torch.testing.assert_close(picked, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('kind', TARGETS)
def test_targets_are_float32_without_gradient_under_autocast_too(kind):
    target = kind(patch_size=(2, 8, 8))
    x = torch.randn(1, 3, 2, 16, 16)
    wanted = target(x)
    with torch.autocast('cpu', torch.bfloat16):
        nn.Linear(2, 2)(torch.randn(1, 2))  # what runs before must not matter
        result = target(x.clone().requires_grad_())
    assert result.dtype == torch.float32
    assert not result.requires_grad
    assert torch.equal(result, wanted)


@pytest.mark.parametrize('kind', TARGETS)
def test_targets_leave_the_input_alone_and_add_nothing_to_checkpoints(kind):
    target = kind(patch_size=(2, 8, 8))
    x = torch.randn(1, 3, 2, 16, 16)
    before = x.clone()
    target(x)
    assert torch.equal(x, before)
    assert not target.state_dict()


@pytest.mark.parametrize('kind', [GaborTarget, EdgeContourTarget, PixelTarget])
def test_an_image_is_a_clip_of_one_frame(kind):
    target = kind(patch_size=(1, 8, 8))
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(target(x), target(x[:, :, None]))
