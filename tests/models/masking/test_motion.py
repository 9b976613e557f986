"""Masks that follow motion: optical flow, vectors of the codec, changing pixels."""

import math

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

from bimm_mm.datasets import MovingShapesDataset
from bimm_mm.models import (
    FlowGuidedMasking,
    FrameDifferenceMasking,
    MotionVectorMasking,
    RandomMasking,
    Step,
)
from bimm_mm.models.guides import DisFlow, RaftFlow
from bimm_mm.models.layers import ids_to_mask
from bimm_mm.models.masking.flow import warp_outwards
from bimm_mm.models.masking.motion import rectangle

GRID = (8, 14, 14)


@MODELS.register_module(force=True)
class ConstantFlow(nn.Module):
    """The same flow everywhere: what is at x in a frame is at x + v in the next one."""

    def __init__(self, right=0.0):
        super().__init__()
        self.right, self.calls = right, []

    def forward(self, first, second):
        # frames carry their number: the flow to an earlier one has the other sign
        sign = torch.sign(second[:, 0, 0, 0] - first[:, 0, 0, 0])
        flow = torch.zeros(len(first), 2, *first.shape[2:])
        flow[:, 0] = (self.right * sign)[:, None, None]
        return flow


def masks(masking, x, grid=GRID, **side):
    step = Step(x, grid=grid, side=side)
    found = masking.draw(step, torch.Generator().manual_seed(0))
    return ids_to_mask(found.ids_mask, grid)


def numbered(batch=2, frames=16, size=224):
    """Clips whose pixels say the number of their frame."""
    number = torch.arange(frames) / (frames - 1)
    return number.view(1, 1, frames, 1, 1).expand(batch, 3, frames, size, size)


def test_without_motion_the_visible_patches_are_a_tube():
    masking = FlowGuidedMasking(dict(type='ConstantFlow'))
    seen = ~masks(masking, numbered())
    assert (seen.flatten(2).sum(dim=2) == 19).all()
    assert (seen == seen[:, :1]).all()
    assert not torch.equal(seen[0], seen[1])


def test_what_is_visible_moves_along_with_a_constant_flow():
    """8 pixels per frame, 2 frames per tubelet, 16 pixels per patch: a patch per slot."""
    masking = FlowGuidedMasking(dict(type='ConstantFlow', right=8.0))
    seen = ~masks(masking, numbered(batch=4))
    assert (seen.flatten(2).sum(dim=2) == 19).all()
    inside = shared = 0
    for slot in range(3, 5):  # near the middle, where nothing has come in from outside
        before, after = seen[:, slot, :, 2:11], seen[:, slot + 1, :, 3:12]
        inside += before.sum()
        shared += (before & after).sum()
    assert shared / inside > 0.8
    still = sum((seen[:, s, :, 2:11] & seen[:, s + 1, :, 2:11]).sum() for s in range(3, 5))
    assert still / inside < 0.6


def test_maps_are_warped_with_the_flow_to_the_neighbor_nearer_to_the_middle():
    visible = torch.zeros(1, 8, 8)
    visible[:, 4, 4] = 1
    # what is in column 4 of the middle frame was in column 3 before, and is in column 5 after
    before, after = torch.zeros(2, 1, 1, 2, 8, 8)
    before[:, :, 0], after[:, :, 0] = 1, -1
    maps = warp_outwards(visible, before, after)
    assert maps.shape == (1, 3, 8, 8)
    for frame, column in enumerate((3, 4, 5)):
        assert maps[0, frame, 4, column] == 1


def test_the_count_of_visible_patches_is_rounded_down():
    assert FlowGuidedMasking(dict(type='ConstantFlow'), 0.9).num_masked(196) == 177
    over = FlowGuidedMasking(dict(type='ConstantFlow'), 0.9, over='clip')
    assert masks(over, numbered()).flatten(1).sum(dim=1).tolist() == [1568 - 156] * 2


@pytest.mark.parametrize('preset', ['ultrafast', 'medium'])
def test_dis_finds_a_shift(preset):
    torch.manual_seed(0)
    picture = nn.functional.interpolate(torch.rand(1, 3, 16, 16), 128, mode='bicubic').clamp(0, 1)
    flow = DisFlow(preset)(picture, picture.roll(3, dims=3))
    assert flow.shape == (1, 2, 128, 128)
    inner = flow[:, :, 32:-32, 32:-32].median(dim=3).values.median(dim=2).values
    torch.testing.assert_close(inner, torch.tensor([[3.0, 0.0]]), atol=0.3, rtol=0)


def test_raft_reads_a_local_file_and_says_what_is_wrong(tmp_path):
    from torchvision.models.optical_flow import raft_small

    torch.manual_seed(0)
    network = raft_small(weights=None).eval()
    torch.save(network.state_dict(), tmp_path / 'raft.pth')
    flow = RaftFlow(tmp_path / 'raft.pth', iterations=2)
    first, second = torch.rand(2, 1, 3, 128, 128)
    with torch.no_grad():
        wanted = network(2 * first - 1, 2 * second - 1, num_flow_updates=2)[-1]
    assert torch.equal(flow(first, second), wanted)
    assert not flow.state_dict()
    with pytest.raises(ValueError, match='at least 128 pixels.*DisFlow takes any'):
        flow(first[..., :64], second[..., :64])
    with pytest.raises(FileNotFoundError, match='no file; torchvision has it as raft_small'):
        RaftFlow(tmp_path / 'other.pth').init_weights()
    (tmp_path / 'broken.pth').write_bytes(b'no weights')
    with pytest.raises(ValueError, match='is not a state dict of raft_small'):
        RaftFlow(tmp_path / 'broken.pth').init_weights()


def moving_square(speed=8, size=224, side=48):
    """A bright square that moves to the right, (1, 3, 16, 224, 224)."""
    x = torch.zeros(1, 3, 16, size, size)
    for frame in range(16):
        x[:, :, frame, 80 : 80 + side, 16 + speed * frame : 16 + speed * frame + side] = 1
    return x


def test_what_changes_is_hidden_and_what_does_not_at_the_bottom():
    x = moving_square()
    change = x.diff(dim=2).abs().mean(dim=1)
    change = torch.cat([change, change[:, -1:]], dim=1)
    moves = nn.functional.adaptive_avg_pool3d(change, GRID) > 0
    top = masks(FrameDifferenceMasking(0.5), x)
    assert top[moves].all() and (top.flatten(2).sum(dim=2) == 98).all()
    assert not masks(FrameDifferenceMasking(0.5, 'bottom'), x)[moves].any()
    with pytest.raises(ValueError, match='frame differences need clips'):
        FrameDifferenceMasking().draw(Step(x[:, :, 0], grid=(1, 14, 14)))


@pytest.mark.parametrize('masking', [FrameDifferenceMasking(0.5), MotionVectorMasking(0.5)])
def test_a_static_clip_is_masked_anywhere(masking):
    """And not from the upper left on, where sorting puts equal scores first."""
    hidden = torch.zeros(14)
    for seed in range(8):
        step = Step(torch.zeros(4, 3, 16, 28, 28), grid=GRID)
        found = masking.draw(step, torch.Generator().manual_seed(seed))
        hidden += ids_to_mask(found.ids_mask, GRID).float().mean(dim=(0, 1, 3))
    assert (hidden / 8)[0] < 0.85 and (hidden / 8)[-1] > 0.15


def test_moving_objects_are_covered_beside_random():
    data = MovingShapesDataset(length=32, seed=3, size=64, num_frames=8, cache=False)
    x = torch.stack([data[i]['inputs'] for i in range(32)]).float() / 255
    grid = (4, 8, 8)
    # tokens in which some pixel belongs to the outline's way
    change = x.diff(dim=2).abs().mean(dim=1)
    change = torch.cat([change, change[:, -1:]], dim=1)
    moves = nn.functional.adaptive_avg_pool3d(change, grid) > 0.05
    covered = masks(FrameDifferenceMasking(0.5), x, grid)[moves].float().mean()
    blind = ids_to_mask(RandomMasking(0.5)(32, grid).ids_mask, grid)[moves].float().mean()
    assert covered > 0.9 and abs(blind - 0.5) < 0.05


def vectors(right, down=0.0, rows=slice(3, 7), columns=slice(1, 5)):
    """Vectors in patches per slot, of a block that stays where it is in the grid."""
    field = torch.zeros(1, *GRID, 2)
    field[:, :, rows, columns] = torch.tensor([right, down])
    return field


def corner_of(mask):
    """First masked row and column of each slot whose row is masked for the most part."""
    rows = (mask.sum(dim=3) >= mask.sum(dim=3).amax(dim=2, keepdim=True) - 1).int().argmax(dim=2)
    columns = (mask.sum(dim=2) >= mask.sum(dim=2).amax(dim=2, keepdim=True) - 1).int().argmax(2)
    return rows, columns


def test_the_rectangle_lies_where_most_moves_and_has_the_exact_count():
    masking = MotionVectorMasking(0.25)
    mask = masks(masking, torch.zeros(1, 3, 16, 28, 28), motion_vectors=vectors(0.01))
    assert (mask.flatten(2).sum(dim=2) == 49).all()
    assert mask[..., 3:7, 1:5].all()


def test_the_rectangle_follows_the_vectors():
    field = torch.zeros(1, *GRID, 2)
    for slot in range(8):  # a block of 7x7 patches that moves a patch to the right in each slot
        field[:, slot, 4:11, slot : slot + 7, 0] = 1.0
    mask = masks(MotionVectorMasking(0.25), torch.zeros(1, 3, 16, 28, 28), motion_vectors=field)
    for slot in range(8):
        assert mask[0, slot, 4:11, slot : slot + 7].all()


def test_the_rectangle_can_go_to_where_most_moves_instead():
    field = torch.zeros(1, *GRID, 2)
    for slot in range(8):  # vectors to the left, in a block that goes to the right
        field[:, slot, 4:11, slot : slot + 7, 0] = -1.0
    x = torch.zeros(1, 3, 16, 28, 28)
    mask = masks(MotionVectorMasking(0.25, 'argmax'), x, motion_vectors=field)
    assert all(mask[0, slot, 4:11, slot : slot + 7].all() for slot in range(8))
    mask = masks(MotionVectorMasking(0.25), x, motion_vectors=field)
    assert not mask[0, 5, 4:11, 5:12].all()


def test_a_walk_goes_one_patch_at_most():
    masking = MotionVectorMasking(0.5, 'walk')
    mask = masks(masking, torch.rand(3, 3, 16, 28, 28))
    assert (mask.flatten(2).sum(dim=2) == 98).all()
    changed = (mask[:, 1:] != mask[:, :-1]).flatten(2).sum(dim=2)
    # two edges of a rectangle of 9 x 10, each in and out, and what makes up the count
    assert 0 < changed.max() <= 2 * (9 + 10 + 8)


def test_samples_without_vectors_follow_the_pixels():
    x = moving_square().repeat(2, 1, 1, 1, 1)
    field = torch.cat([torch.zeros(1, *GRID, 2), vectors(0.1, rows=slice(9, 14))])
    mask = masks(MotionVectorMasking(0.1), x, motion_vectors=field)
    assert mask[0, 0, 5:8, 1:4].float().mean() > 0.8  # the square
    assert mask[1, 0, 9:13, 1:5].float().mean() > 0.8  # the vectors
    alone = masks(MotionVectorMasking(0.1), x[:1])
    assert alone[0, 0, 5:8, 1:4].float().mean() > 0.8
    with pytest.raises(ValueError, match='motion_vectors have shape'):
        masks(MotionVectorMasking(0.1), x, motion_vectors=field[:, :4])


@pytest.mark.parametrize(('count', 'grid'), [(147, (14, 14)), (1, (2, 2)), (30, (3, 14))])
def test_rectangles_fit(count, grid):
    rows, columns = rectangle(count, grid)
    assert rows <= grid[0] and columns <= grid[1] and 0 < rows * columns <= count
    assert rows * columns > 0.8 * count or math.prod(grid) < 50
