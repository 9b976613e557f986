"""Cropping and resizing once gives what the documented three steps do."""

import random

import cv2
import numpy as np
import pytest

pytest.importorskip('mmaction', reason='has the three steps')

from mmaction.datasets.transforms import MultiScaleCrop, Resize  # noqa: E402

from bimm_mm.datasets.transforms import MultiScaleCropResize  # noqa: E402

SCALES = (1, 0.875, 0.75, 0.66)


def three_steps(frames: list[np.ndarray], seed: int) -> np.ndarray:
    random.seed(seed)
    results = dict(imgs=[frame.copy() for frame in frames], img_shape=frames[0].shape[:2])
    results['modality'] = 'RGB'
    for step in (
        Resize(scale=(-1, 256)),
        MultiScaleCrop(input_size=224, scales=SCALES, num_fixed_crops=13),
        Resize(scale=(224, 224), keep_ratio=False),
    ):
        results = step(results)
    return np.stack(results['imgs'])


def once(frames: list[np.ndarray], seed: int) -> np.ndarray:
    random.seed(seed)
    results = dict(imgs=[frame.copy() for frame in frames], img_shape=frames[0].shape[:2])
    results = MultiScaleCropResize()(results)
    assert results['img_shape'] == (224, 224)
    return np.stack(results['imgs'])


def picture(height: int, width: int, channels: int = 3) -> np.ndarray:
    """Smooth, with edges."""
    small = np.random.default_rng(0).integers(256, size=(9, 13, channels), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize('size', [(256, 340), (256, 256), (455, 256)])
def test_equal_to_the_bit_where_the_short_side_is_256(size):
    for seed in range(30):
        frames = [picture(*size), picture(*size)[::-1].copy()]
        assert np.array_equal(once(frames, seed), three_steps(frames, seed))


@pytest.mark.parametrize('size', [(240, 320), (240, 426), (720, 1280), (1280, 720), (360, 202)])
def test_the_same_place_to_a_pixel_else(size):
    for seed in range(30):
        frames = [picture(*size)]
        difference = np.abs(once(frames, seed).astype(int) - three_steps(frames, seed))
        assert difference.mean() < 2  # of 255; a box that is off by 3 pixels gives more


def test_a_box_that_is_off_would_be_noticed():
    frames = [picture(240, 426)]
    moved = [np.roll(frames[0], 3, axis=1)]
    assert np.abs(once(moved, 0).astype(int) - three_steps(frames, 0)).mean() > 2


def test_a_fourth_channel_is_cut_alike():
    frame = picture(240, 320, 4)
    assert once([frame], 1).shape == (1, 224, 224, 4)
    assert np.array_equal(once([frame], 1)[..., :3], once([frame[..., :3].copy()], 1))


def test_scales_must_fit():
    with pytest.raises(ValueError, match=r'scales=\(2,\) must be in \(0, 1\]'):
        MultiScaleCropResize(scales=(2,))
