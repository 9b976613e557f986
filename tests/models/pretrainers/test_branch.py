import pytest
import torch
from torch import nn

from bimm_mm.models import Branch
from bimm_mm.models.pretrainers.branch import Reconstruction


def result_of(targets, predictions):
    return Reconstruction(None, None, None, {}, predictions, targets)


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
    losses, _ = branch.loss(clips)
    torch.manual_seed(1)
    result = branch(clips)
    for name, weight in zip(branch.names, (1, 0.5, 2), strict=True):
        error = (result.predictions[name] - result.targets[name]).square().mean()
        torch.testing.assert_close(losses[name], weight * error)


def test_explained_variance_is_the_variance_weighted_r2(branch, monkeypatch):
    """1 - sum of squared errors / sum of squared deviations, over samples and tokens as rows."""
    target = torch.randn(2, 5, 3) * torch.tensor([1.0, 4.0, 0.1]) + 7
    prediction = target + 0.5 * torch.randn_like(target)
    rows, guesses = target.reshape(10, 3), prediction.reshape(10, 3)
    r2 = 1 - (rows - guesses).square().sum() / (rows - rows.mean(dim=0)).square().sum()
    branch.names, branch.loss_weights = ['some'], (3.0,)
    result = result_of({'some': target}, {'some': prediction})
    monkeypatch.setattr(Branch, 'forward', lambda self, x: result)
    torch.testing.assert_close(branch.loss(target)[1]['some'], r2)


@pytest.mark.parametrize('kind, explained', [('perfect', 1.0), ('mean', 0.0), ('zero', -1.0)])
def test_what_a_perfect_a_mean_and_a_worse_prediction_explain(branch, monkeypatch, kind, explained):
    target = torch.tensor([[[0.0], [2.0]]])  # mean 1, variance 1
    prediction = {'perfect': target, 'mean': torch.ones(1, 2, 1), 'zero': torch.zeros(1, 2, 1)}
    branch.names, branch.loss_weights = ['some'], (1.0,)
    result = result_of({'some': target}, {'some': prediction[kind]})
    monkeypatch.setattr(Branch, 'forward', lambda self, x: result)
    assert branch.loss(target)[1]['some'].item() == pytest.approx(explained)


def test_a_constant_target_does_not_divide_by_zero(branch):
    _, explained = branch.loss(torch.zeros(1, 3, 4, 16, 16))
    assert all(torch.isfinite(value) for value in explained.values())


def test_bfloat16_comes_close_to_float32(branch, clips):
    results = []
    for enabled in (False, True):
        torch.manual_seed(1)
        branch.zero_grad()
        with torch.autocast('cpu', torch.bfloat16, enabled=enabled):
            losses, _ = branch.loss(clips)
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
        losses, _ = branch.loss(clips)
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
