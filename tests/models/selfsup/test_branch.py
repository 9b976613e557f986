import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

from bimm_mm.models import Branch


def losses_of(branch, x):
    """Losses by the names of the targets."""
    result = branch.losses(branch(x))
    return {k.removeprefix('loss_'): v for k, v in result.items() if k.startswith('loss_')}


@pytest.fixture
def branch(make_branch):
    torch.manual_seed(0)
    return Branch(**make_branch(video=True))


def test_everything_a_branch_makes_of_a_batch_fits_together(branch, clips):
    result = branch(clips)
    assert result.x is clips
    assert result.ids_keep.shape == (2, 8) and result.ids_mask.shape == (2, 24)
    assert list(result.targets) == list(result.predictions) == ['gabor', 'contour', 'motion']
    for name, target in zip(branch.names, branch.targets, strict=True):
        assert result.ids[name] is result.ids_mask
        assert result.predictions[name].shape == (2, 24, target.out_dims)
        assert torch.equal(result.targets[name], target(clips, result.ids_mask))


def test_predictions_are_made_from_visible_tokens_alone(branch, clips):
    """What is masked may change as it likes, the predictions do not."""
    torch.manual_seed(1)
    result = branch.eval()(clips)
    hidden = torch.zeros(2, 32).scatter(1, result.ids_mask, 1.0).view(2, 1, 2, 4, 4)
    hidden = hidden.repeat_interleave(2, 2).repeat_interleave(4, 3).repeat_interleave(4, 4)
    changed = torch.where(hidden.bool(), torch.randn_like(clips), clips)
    torch.manual_seed(1)  # the same masks
    other = branch(changed)
    for name in branch.names:
        assert torch.equal(other.predictions[name], result.predictions[name])
        assert not torch.equal(other.targets[name], result.targets[name])


def test_targets_for_visible_tokens_where_a_decoder_predicts_those(make_branch, clips):
    config = make_branch(video=True)
    config['neck']['decoders'][0] = dict(type='LinearDecoder', embed_dims=12, predict='visible')
    result = Branch(**config)(clips)
    assert result.ids['gabor'] is result.ids_keep
    assert result.targets['gabor'].shape == result.predictions['gabor'].shape
    assert result.targets['gabor'].shape[1] == 8


def test_losses_are_weighted_mean_squared_errors(make_branch, clips):
    config = make_branch(video=True)
    torch.manual_seed(0)
    branch = Branch(**config, loss_weights=(1, 0.5, 2))
    torch.manual_seed(1)
    losses = losses_of(branch, clips)
    torch.manual_seed(1)
    result = branch(clips)
    for name, weight in zip(branch.names, (1, 0.5, 2), strict=True):
        error = (result.predictions[name] - result.targets[name]).square().mean()
        torch.testing.assert_close(losses[name], weight * error)


def test_a_constant_target_explains_nothing_that_could_be_averaged(branch):
    result = branch.losses(branch(torch.zeros(1, 3, 4, 16, 16)))
    assert all(torch.isfinite(v) for k, v in result.items() if k.startswith('loss'))
    assert result['explained_motion'].isnan() and result['explained_contour'].isnan()


def test_bfloat16_comes_close_to_float32(branch, clips):
    results = []
    for enabled in (False, True):
        torch.manual_seed(1)
        branch.zero_grad()
        with torch.autocast('cpu', torch.bfloat16, enabled=enabled):
            losses = losses_of(branch, clips)
        assert all(loss.dtype == torch.float32 for loss in losses.values())
        sum(losses.values()).backward()
        gradient = torch.cat([p.grad.flatten() for p in branch.parameters()])
        results.append((torch.stack(list(losses.values())), gradient))
    (losses, gradient), (low_losses, low_gradient) = results
    torch.testing.assert_close(low_losses, losses, rtol=0.02, atol=0.01)
    assert not torch.equal(low_losses, losses)  # autocast was on
    assert nn.functional.cosine_similarity(gradient, low_gradient, dim=0) > 0.99
    assert low_gradient.norm() == pytest.approx(gradient.norm().item(), rel=0.05)


def test_a_branch_learns_one_batch_by_heart(branch, clips):
    optimizer = torch.optim.AdamW(branch.parameters(), lr=3e-3)
    first = None
    for _ in range(30):
        torch.manual_seed(1)  # the same masks
        losses = losses_of(branch, clips)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        first = first or {name: value.item() for name, value in losses.items()}
    assert all(losses[name] < 0.7 * value for name, value in first.items()), (first, losses)


# errors ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(loss_weights=(1, 1)), r'loss_weights=\(1, 1\) must hold one number for each of .* 3'),
        (dict(loss_weights=(0, 0, 0)), r'loss_weights=\(0, 0, 0\) must have one above 0'),
        (dict(masking=dict(type='TubeMasking', ratio=0.99)), 'ratio=0.99 masks 16 of 16'),
        (dict(masking=dict(type='TubeMasking', ratio=1.5)), 'ratio=1.5 must lie between 0 and 1'),
        (dict(targets=[dict(type='MotionTarget')] * 3), 'targets must have different names'),
        (dict(targets=[dict(type='MotionTarget')]), 'decoders: 3 of them for 1 targets'),
    ],
)
def test_bad_configs(make_branch, change, message):
    with pytest.raises((ValueError, TypeError), match=message):
        Branch(**(make_branch(video=True) | change))


def test_a_different_number_of_stages(make_branch):
    with pytest.raises((ValueError, TypeError), match='decoders: 3 of them for 2 stages'):
        Branch(**make_branch(video=True, stage_ends=(1, 3)))


@pytest.mark.parametrize('shape', [(2, 3, 4, 24, 24), (2, 3, 8, 16, 16), (2, 3, 2, 16, 16)])
def test_an_input_of_another_size_is_an_error_not_a_wrong_mask(branch, shape):
    size = 'x'.join(map(str, shape[2:]))
    with pytest.raises(ValueError, match=f'the input has {size} .* is made for 4x16x16'):
        branch(torch.randn(shape))


@pytest.mark.parametrize('gaps', [False, True])
def test_an_image_branch_gets_the_codes_of_its_frame(make_branch, clips, gaps):
    """Brought along for all clips, or for the second only: the first one's are made online."""
    branch = make_branch(False) | dict(tokenizer=dict(type='BrightnessTokenizer'))
    branch['targets'] = [dict(type='CodeTarget', num_codes=8), *branch['targets'][1:]]
    model = MODELS.build(dict(type='SingleBranchPretrainer', ventral=branch))
    codes = torch.arange(2 * 4 * 16).view(2, 4, 4, 4)
    side = [None, codes[1]] if gaps else codes
    model.draw_frames = lambda clips: torch.tensor([3, 1])
    model.ventral.tokenizer.forward = lambda x, grid: torch.full((len(x), *grid), -1)
    x, own = model.split_inputs(clips, codes=side)['ventral']
    found = model.ventral.begin(x, own).side['codes']
    wanted = torch.stack([torch.full((4, 4), -1) if gaps else codes[0, 3], codes[1, 1]])
    assert torch.equal(found, wanted)


def test_clips_may_have_one_frame_more_for_the_last_difference(make_branch):
    """Where a target has use for it, and with its contours and codes."""
    config = make_branch(True)
    branch = Branch(**config)
    clips, contours = torch.randn(2, 3, 5, 16, 16), torch.rand(2, 1, 5, 16, 16)
    codes = torch.zeros(2, 5, 4, 4, dtype=torch.long)
    step = branch.begin(clips, dict(contours=contours, codes=codes))
    assert torch.equal(step.x, clips[:, :, :4])
    assert torch.equal(step.side['next_frame'], clips[:, :, 4])
    assert torch.equal(step.side['contours'], contours[:, :, :4])
    assert step.side['codes'].shape == (2, 4, 4, 4)
    with pytest.raises(ValueError, match='the input has 6x16x16'):
        branch.begin(torch.randn(2, 3, 6, 16, 16))
    config['targets'] = [*config['targets'][:2], dict(type='PixelTarget')]
    with pytest.raises(ValueError, match='the input has 5x16x16'):
        Branch(**config).begin(clips)
