import pytest
import torch

from bimm_mm.models import MotionTarget


def test_differences_of_adjacent_frames_by_a_plain_loop():
    x = torch.randn(1, 3, 4, 4, 6)
    result = MotionTarget(patch_size=(2, 2, 3), scale=1.0, power=1.0)(x)[0]
    values = iter(result.flatten().tolist())
    for first in (0, 2):
        for top in (0, 2):
            for left in (0, 3):
                for c in range(3):
                    for t in (first, first + 1):
                        before = min(t, 2)  # the last difference is repeated
                        for h in (top, top + 1):
                            for w in (left, left + 1, left + 2):
                                change = x[0, c, before + 1, h, w] - x[0, c, before, h, w]
                                assert next(values) == pytest.approx(abs(change.item()))
    assert next(values, None) is None


def test_a_static_clip_has_no_motion():
    x = torch.randn(1, 3, 1, 8, 8).expand(1, 3, 4, 8, 8)
    assert (MotionTarget(patch_size=(2, 4, 4))(x) == 0).all()


def test_direction_of_time_and_sign_of_change_do_not_matter():
    x = torch.randn(1, 3, 2, 8, 8)
    target = MotionTarget(patch_size=(2, 4, 4))
    assert torch.equal(target(x), target(x.flip(2)))
    assert torch.equal(target(x), target(-x))


def test_power_compresses_before_the_scale():
    x = torch.randn(1, 3, 4, 8, 8)
    plain = MotionTarget(patch_size=(2, 4, 4), scale=1.0, power=1.0)(x)
    torch.testing.assert_close(
        MotionTarget(patch_size=(2, 4, 4), scale=2.0, power=0.5)(x), 2 * plain.sqrt()
    )


def test_one_frame_does_not_move():
    with pytest.raises(ValueError, match='at least 2 frames, and got 1'):
        MotionTarget(patch_size=(1, 4, 4))(torch.randn(1, 3, 8, 8))
