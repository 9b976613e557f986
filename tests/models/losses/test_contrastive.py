import pytest
import torch
import torch.nn.functional as F

from bimm_mm.models.losses import contrastive_loss, matching_loss


def draw(seed, rows=4):
    return torch.randn(rows, 6, generator=torch.Generator().manual_seed(seed))


def test_without_equal_groups_it_is_the_mean_of_both_directions():
    video, text = draw(0), draw(1)
    loss, found = matching_loss(video, text, torch.arange(4), 0.3)
    there, back = contrastive_loss(video, text, 0.3), contrastive_loss(text, video, 0.3)
    torch.testing.assert_close(loss, (there[0] + back[0]) / 2)
    torch.testing.assert_close(found, (there[1] + back[1]) / 2)


def test_rows_of_a_group_are_each_others_match():
    video, text = draw(0), draw(1)
    text[2] = text[0]
    loss, _ = matching_loss(video, text, torch.tensor([7, 8, 7, 9]), 0.5)
    share = (F.normalize(video, dim=1) @ F.normalize(text, dim=1).T / 0.5).softmax(dim=1)
    there = -torch.stack([share[0, [0, 2]].sum(), share[1, 1], share[2, [0, 2]].sum(), share[3, 3]])
    share = (F.normalize(text, dim=1) @ F.normalize(video, dim=1).T / 0.5).softmax(dim=1)
    back = -torch.stack([share[0, [0, 2]].sum(), share[1, 1], share[2, [0, 2]].sum(), share[3, 3]])
    wanted = -(torch.log(-there).mean() + torch.log(-back).mean()) / 2
    torch.testing.assert_close(loss, wanted)


def test_rows_of_no_group_are_left_out():
    video, text = draw(0, 6), draw(1, 6)
    groups = torch.tensor([0, -1, 1, 2, -1, 3])
    kept = groups >= 0
    wanted = matching_loss(video[kept], text[kept], torch.arange(4), 0.3)
    for one, other in zip(matching_loss(video, text, groups, 0.3), wanted, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize('groups', [[-1, -1], [3, 3]])
def test_gradients_are_finite_where_nothing_is_left_to_tell_apart(groups):
    video, text = draw(0, 2).requires_grad_(), draw(1, 2)
    loss, _ = matching_loss(video, text, torch.tensor(groups), 0.3)
    loss.backward()
    assert loss == 0 and torch.equal(video.grad, torch.zeros(2, 6))
