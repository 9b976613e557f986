import pytest
import torch

from bimm_mm.models import MotionTarget
from bimm_mm.models.step import Step


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


# signed and normalized differences ---------------------------------------------------------------


def moving_square(frames=4):
    """A white square of 8 pixels that moves 4 pixels to the right in each frame."""
    clip = torch.zeros(1, 3, frames, 16, 32)
    for t in range(frames):
        clip[:, :, t, 4:12, 4 + 4 * t : 12 + 4 * t] = 1.0
    return clip


def signed(**settings):
    return MotionTarget(scale=1.0, absolute=False, patch_size=(2, 16, 32), **settings)


def test_the_signed_difference_of_a_static_clip_is_zero():
    clip = moving_square(1).repeat(1, 1, 4, 1, 1)
    for settings in ({}, dict(normalize='clip'), dict(difference='intra')):
        assert not signed(**settings)(clip).any()


def test_a_moving_square_shows_at_its_edges_with_opposite_signs():
    values = signed()(moving_square()).view(2, 3, 2, 16, 32)  # (T', channel, frame, H, W)
    for t in range(3):
        frame = values[t // 2, 0, t % 2]
        wanted = torch.zeros(16, 32)
        wanted[4:12, 4 + 4 * t : 8 + 4 * t] = -1.0  # the trailing edge becomes black
        wanted[4:12, 12 + 4 * t : 16 + 4 * t] = 1.0  # the leading edge becomes white
        assert torch.equal(frame, wanted)
    assert torch.equal(values[1, :, 1], values[1, :, 0])  # the last difference is repeated
    absolute = MotionTarget(scale=1.0, patch_size=(2, 16, 32))(moving_square())
    assert torch.equal(absolute, signed()(moving_square()).abs())


def test_the_last_frame_is_compared_with_the_one_after_the_clip():
    clip = torch.randn(2, 3, 5, 8, 8)
    target = MotionTarget(patch_size=(1, 4, 4), absolute=False, scale=1.0)
    wanted = target(clip)[:, : 4 * 4]  # 4 of 5 frames, of 4 patches each
    step = Step(clip[:, :, :4], side=dict(next_frame=clip[:, :, 4]))
    assert torch.equal(target.from_step(step, None), wanted)
    assert torch.equal(target.from_step(step, torch.tensor([[13, 2]] * 2)), wanted[:, [13, 2]])
    alone = target.from_step(Step(clip[:, :, :4]), None)
    assert torch.equal(alone[:, :12], wanted[:, :12]) and torch.equal(alone[:, 12:], alone[:, 8:12])


def test_one_difference_per_cube():
    target = signed(difference='intra')
    values = target(moving_square())
    assert values.shape == (1, 2, target.out_dims) == (1, 2, 3 * 16 * 32)
    forward = signed()(moving_square()).view(2, 3, 2, 16, 32)
    assert torch.equal(values.view(2, 3, 16, 32), forward[:, :, 0])  # from frame 0 to 1, 2 to 3


def test_slow_and_fast_clips_count_alike_where_the_clip_is_the_unit():
    clip = moving_square()
    values = signed(normalize='clip')(torch.cat([clip, 0.1 * clip]))
    torch.testing.assert_close(values[0], values[1])
    assert values[0].square().mean().item() == pytest.approx(1.0, abs=1e-4)


def test_signs_survive_the_exponent():
    values = signed(power=0.5)(0.25 * moving_square())
    assert sorted(values.unique().tolist()) == [-0.5, 0.0, 0.5]


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(difference='both'), "difference='both' must be 'forward' or 'intra'"),
        (dict(normalize='patch'), "normalize='patch' must be 'none' or 'clip'"),
        (dict(difference='intra', patch_size=(1, 8, 8)), 'needs cubes of at least 2 frames'),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        MotionTarget(**settings)
