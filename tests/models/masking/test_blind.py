import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.registry import MODELS

from bimm_mm.models import RandomMasking, TubeMasking

grids = st.tuples(st.integers(1, 4), st.integers(2, 6), st.integers(2, 6))
ratios = st.sampled_from([0.25, 0.5, 0.75])
few = settings(max_examples=20, deadline=None)


@few
@given(ratio=ratios, grid=grids, batch=st.integers(1, 4))
def test_random_masks_are_exact_ascending_and_complete(ratio, grid, batch):
    count = grid[0] * grid[1] * grid[2]
    keep, mask = RandomMasking(ratio)(batch, grid)
    assert mask.shape == (batch, int(ratio * count + 0.5))
    assert (keep.diff() > 0).all() and (mask.diff() > 0).all()
    assert torch.equal(
        torch.cat([keep, mask], 1).sort().values, torch.arange(count).repeat(batch, 1)
    )


@few
@given(ratio=ratios, grid=grids, batch=st.integers(1, 4))
def test_tube_masks_are_exact_ascending_complete_and_equal_in_every_frame(ratio, grid, batch):
    frames, area = grid[0], grid[1] * grid[2]
    keep, mask = TubeMasking(ratio)(batch, grid)
    assert mask.shape == (batch, frames * int(ratio * area + 0.5))
    assert (keep.diff() > 0).all() and (mask.diff() > 0).all()
    together = torch.cat([keep, mask], 1).sort().values
    assert torch.equal(together, torch.arange(frames * area).repeat(batch, 1))
    positions = mask.view(batch, frames, -1) % area
    assert (positions == positions[:, :1]).all()


@pytest.mark.parametrize('masking', [RandomMasking(0.75), TubeMasking(0.75)])
def test_masks_follow_the_generator(masking):
    def draw(seed):
        return masking(3, (2, 6, 6), generator=torch.Generator().manual_seed(seed))

    torch.manual_seed(5)
    before = torch.get_rng_state()
    (keep, mask), again, other = draw(1), draw(1), draw(2)
    assert torch.equal(torch.get_rng_state(), before)  # the global generator is left alone
    assert torch.equal(keep, again[0]) and torch.equal(mask, again[1])
    assert not torch.equal(keep, other[0])


@pytest.mark.parametrize('masking', [RandomMasking(0.75), TubeMasking(0.75)])
def test_samples_of_a_batch_have_different_masks(masking):
    keep, _ = masking(8, (2, 8, 8), generator=torch.Generator().manual_seed(0))
    assert len(keep.unique(dim=0)) == 8


@pytest.mark.parametrize('masking', [RandomMasking(0.75), TubeMasking(0.75)])
def test_every_position_is_masked_as_often_as_the_ratio_says(masking):
    _, mask = masking(2000, (2, 4, 4), generator=torch.Generator().manual_seed(0))
    share = mask.flatten().bincount(minlength=32) / 2000
    assert (share - 0.75).abs().max() < 0.04  # 4 standard errors


@pytest.mark.parametrize('masking', [RandomMasking(0.75), TubeMasking(0.75)])
def test_masks_are_made_on_the_device(masking):
    keep, mask = masking(2, (2, 4, 4), device='meta')
    assert keep.device.type == mask.device.type == 'meta'


def test_the_papers_counts():
    assert RandomMasking(0.75)(1, (1, 14, 14))[0].shape == (1, 49)
    keep, mask = TubeMasking(0.9)(1, (8, 14, 14))  # 196 * 0.9 = 176.4 of each frame
    assert (keep.shape, mask.shape) == ((1, 160), (1, 1408))


@pytest.mark.parametrize('kind', ['RandomMasking', 'TubeMasking'])
@pytest.mark.parametrize('ratio', [0, 1, -0.1, 1.5, 75, float('nan')])
def test_ratio_must_lie_between_0_and_1(kind, ratio):
    with pytest.raises(ValueError, match=rf'ratio={ratio} must lie between 0 and 1'):
        MODELS.build(dict(type=kind, ratio=ratio))


@pytest.mark.parametrize('ratio', [0.99, 0.01])
@pytest.mark.parametrize('masking', [RandomMasking, TubeMasking])
def test_a_ratio_that_masks_all_or_nothing_is_an_error(ratio, masking):
    with pytest.raises(ValueError, match=f'ratio={ratio} masks {round(ratio * 16)} of 16'):
        masking(ratio)(1, (1, 4, 4))


def test_tubes_count_the_positions_of_a_frame():
    assert RandomMasking(0.9)(1, (8, 2, 2))[0].shape == (1, 3)
    with pytest.raises(ValueError, match='masks 4 of 4'):
        TubeMasking(0.9)(1, (8, 2, 2))
