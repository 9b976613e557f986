import pytest
import torch

from bimm_mm.models.losses import accuracy, explained_variance, weighted_mean
from bimm_mm.models.losses.scores import cross_entropy


def test_explained_variance_is_the_variance_weighted_r2():
    """1 - sum of squared errors / sum of squared deviations, over samples and tokens as rows."""
    torch.manual_seed(0)
    target = torch.randn(2, 5, 3) * torch.tensor([1.0, 4.0, 0.1]) + 7
    prediction = target + 0.5 * torch.randn_like(target)
    rows, guesses = target.reshape(10, 3), prediction.reshape(10, 3)
    r2 = 1 - (rows - guesses).square().sum() / (rows - rows.mean(dim=0)).square().sum()
    torch.testing.assert_close(explained_variance(prediction, target), r2)


@pytest.mark.parametrize('guess, explained', [([0.0, 2.0], 1.0), ([1.0, 1.0], 0.0), ([0, 0], -1.0)])
def test_what_a_perfect_a_mean_and_a_worse_prediction_explain(guess, explained):
    target = torch.tensor([[[0.0], [2.0]]])  # mean 1, variance 1
    prediction = torch.tensor([[[float(value)] for value in guess]])
    assert explained_variance(prediction, target).item() == pytest.approx(explained, abs=1e-6)


@pytest.mark.parametrize('value', [0.0, 0.3, 1e3])
def test_of_a_constant_target_nothing_can_be_explained(value):
    target = torch.full((2, 50, 40), value)
    assert explained_variance(target + 0.1, target).isnan()


def test_the_variance_of_a_large_value_that_varies_little_is_not_lost_to_rounding():
    """A difference of squares gives -6 here, or 20, by chance, and a share that is all noise."""
    torch.manual_seed(0)
    target = 1000 + 2 * torch.randn(2, 500, 40)
    prediction = torch.full_like(target, 1000)
    assert explained_variance(prediction, target).item() == pytest.approx(0, abs=0.01)


def test_weights_leave_tokens_out():
    torch.manual_seed(0)
    target, prediction = torch.randn(2, 6, 3), torch.randn(2, 6, 3)
    weight = torch.tensor([[1.0, 1, 1, 0, 0, 0]] * 2)
    torch.testing.assert_close(
        explained_variance(prediction, target, weight),
        explained_variance(prediction[:, :3], target[:, :3]),
    )
    torch.testing.assert_close(weighted_mean(target, weight), target[:, :3].mean())
    logits, classes = torch.randn(2, 6, 2, 5), torch.randint(5, (2, 6, 2))
    for function in (accuracy, cross_entropy):
        torch.testing.assert_close(
            function(logits, classes, weight), function(logits[:, :3], classes[:, :3])
        )


def test_accuracy_counts_the_most_likely_classes():
    logits = torch.tensor([[[2.0, 1.0], [0.0, 3.0], [5.0, 1.0], [1.0, 2.0]]])
    assert accuracy(logits, torch.tensor([[0, 1, 1, 0]])).item() == 0.5
