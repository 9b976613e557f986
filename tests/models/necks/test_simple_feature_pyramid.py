import math

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from bimm_mm.models import BimmViT, LayerNorm2d, SimpleFeaturePyramid


@pytest.mark.parametrize('size', [(64, 96), (70, 100), (16, 17)])
def test_levels_cover_the_image_at_their_strides(size):
    """Also where the image is not a multiple of the patch or of the largest stride."""
    backbone = BimmViT(
        dict(embed_dims=24, depth=2, num_heads=2),
        img_size=64,
        out_type='featmap',
        window_size=3,
        global_blocks=(1,),
    )
    neck = SimpleFeaturePyramid(24, out_channels=8)
    maps = neck(backbone(torch.randn(2, 3, *size)))
    height, width = (math.ceil(length / 16) * 16 for length in size)  # what the encoder pads to
    assert [tuple(m.shape) for m in maps] == [
        (2, 8, math.ceil(height / stride), math.ceil(width / stride))
        for stride in (4, 8, 16, 32, 64)
    ]


def test_positions_stay_where_they_are_in_the_image():
    """A change in the input map changes each level around the same place, and only there."""
    strides = (4, 8, 16, 32, 64)
    neck = SimpleFeaturePyramid(8, out_channels=4, strides=strides, extra_levels=0)
    x = torch.randn(1, 8, 16, 16)
    changed = x.clone()
    changed[..., 8, 12] += 5  # pixels 128 to 143 and 192 to 207
    for stride, before, after in zip(strides, neck([x]), neck([changed]), strict=True):
        _, rows, columns = (before != after).any(1).nonzero().unbind(1)
        for found, first in ((rows, 128), (columns, 192)):
            # the 3 x 3 convolution carries it one position further
            assert found.min() >= first // stride - 1
            assert found.max() <= (first + 15) // stride + 1


def test_pieces_are_vitdets():
    """Channels are halved by each upsampling; extra levels take every second position."""
    neck = SimpleFeaturePyramid(32, out_channels=8)
    kinds = [[type(m) for m in level] for level in neck.levels]
    end = [nn.Conv2d, LayerNorm2d, nn.Conv2d, LayerNorm2d]
    up = nn.ConvTranspose2d
    assert kinds == [[up, LayerNorm2d, nn.GELU, up, *end], [up, *end], end, [nn.MaxPool2d, *end]]
    assert [level[-4].in_channels for level in neck.levels] == [8, 16, 32, 32]
    *_, last, extra = neck([torch.randn(1, 32, 8, 12)])
    assert extra.equal(last[..., ::2, ::2])


def test_the_last_map_is_read():
    neck = SimpleFeaturePyramid(8, out_channels=4)
    first, last = torch.randn(2, 1, 8, 4, 4)
    for one, other in zip(neck([first, last]), neck((last,)), strict=True):
        assert one.equal(other)


def test_norm_is_over_the_channels_of_each_position():
    norm = LayerNorm2d(6)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(2, 6, 3, 4)
    wanted = (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, correction=0) + 1e-6).sqrt()
    wanted = wanted * norm.weight[:, None, None] + norm.bias[:, None, None]
    torch.testing.assert_close(norm(x), wanted)


def test_maps_are_float32_under_mixed_precision():
    """mmcv's RoIAlign has no kernel for bfloat16."""
    neck = SimpleFeaturePyramid(8, out_channels=4)
    with torch.autocast('cpu', torch.bfloat16):
        maps = neck([torch.randn(1, 8, 4, 4)])
    assert {m.dtype for m in maps} == {torch.float32}


def test_maps_lie_in_memory_as_roi_align_reads_them():
    """It ignores strides: of a map with the channels last it would read other values."""
    ops = pytest.importorskip('mmcv.ops')
    backbone = BimmViT(dict(embed_dims=8, depth=1, num_heads=2), img_size=64, out_type='featmap')
    features = backbone(torch.randn(2, 3, 64, 64))
    maps = SimpleFeaturePyramid(8, out_channels=4)(features)
    assert all(m.is_contiguous() for m in (*features, *maps))
    rois = torch.tensor([[0, 3.0, 2, 40, 50], [1, 8.0, 6, 60, 30]])
    align = ops.RoIAlign(output_size=3, spatial_scale=1 / 4, sampling_ratio=0)
    assert align(maps[0], rois).equal(
        align(maps[0].clone(memory_format=torch.contiguous_format), rois)
    )


@pytest.mark.parametrize('scope', ['mmdet', 'mmseg'])
def test_found_from_other_scopes(scope):
    pytest.importorskip(scope)
    with DefaultScope.overwrite_default_scope(scope):
        neck = MODELS.build(dict(type='SimpleFeaturePyramid', in_channels=8))
        with MODELS.switch_scope_and_registry(scope) as registry:
            assert registry.get('LN2d') is LayerNorm2d
    assert isinstance(neck, SimpleFeaturePyramid)


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(strides=(2,)), r'strides=\(2,\): 2 is not a power of two .*patch_size=16, from 4 up'),
        (dict(strides=(12, 16)), '12 is not a power of two'),
        (dict(strides=(0,)), '0 is not a power of two'),
        (dict(in_channels=6), 'in_channels=6 must be a multiple of 4 for stride 4'),
    ],
)
def test_wrong_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        SimpleFeaturePyramid(**(dict(in_channels=8) | kwargs))


@pytest.mark.parametrize('shape', [(1, 4, 5, 5), (1, 8, 2, 5, 5), (1, 8)])
def test_wrong_maps(shape):
    with pytest.raises(ValueError, match=r'in_channels=8 needs \(B, 8, H'):
        SimpleFeaturePyramid(8)([torch.randn(shape)])
