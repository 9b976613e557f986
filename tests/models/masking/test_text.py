"""Text-guided masking, with an oracle in CLIP's place, and with a small random CLIP."""

import sys
from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

from bimm_mm.datasets import MovingShapesDataset
from bimm_mm.models import RandomMasking, Step, TextGuidedMasking
from bimm_mm.models.layers import ids_to_mask

sys.path.insert(0, str(Path(__file__).parents[2]))
from small_clip import write_clip  # noqa: E402


@MODELS.register_module(force=True)
class BrightnessGuide(nn.Module):
    """An oracle: objects of the generated clips are much brighter than the background."""

    def forward(self, clips, captions, grid):
        light = clips.mean(dim=1)  # (B, T, H, W)
        return nn.functional.adaptive_avg_pool3d((light > 0.4).float(), grid)


@MODELS.register_module(force=True)
class NamedHalfGuide(BrightnessGuide):
    """An oracle for clips with an object in each half: 'left: ...' or 'right: ...' names one."""

    def forward(self, clips, captions, grid):
        similarity = super().forward(clips, captions, grid)
        half = grid[2] // 2
        for scores, caption in zip(similarity, captions, strict=True):
            scores[..., half:] *= caption.startswith('right')
            scores[..., :half] *= caption.startswith('left')
        return similarity


def hidden(masking, x, captions=None, grid=(4, 14, 14)):
    """The masked tokens of a step, (B, T', H', W') bool."""
    captions = captions or ['a star'] * len(x)
    step = Step(x, grid=grid, side=dict(caption=captions), mean=(0, 0, 0), std=(255,) * 3)
    return ids_to_mask(masking.draw(step).ids_mask, grid)


def square(left=56, side=64):
    """A bright square of 64 pixels on black, (1, 3, 8, 224, 224)."""
    x = torch.zeros(1, 3, 8, 224, 224)
    x[..., 80 : 80 + side, left : left + side] = 1
    return x


ORACLE = dict(type='BrightnessGuide')


@pytest.mark.parametrize('ratio', [0.55, 0.6, 0.75])
def test_every_slot_hides_the_same_number(ratio):
    mask = hidden(TextGuidedMasking(ORACLE, ratio), torch.rand(2, 3, 8, 224, 224))
    assert (mask.flatten(2).sum(dim=2) == int(ratio * 196)).all()


def test_the_bright_square_is_hidden_and_follows_flip_and_crop():
    masking = TextGuidedMasking(ORACLE, ratio=0.1)
    x = square()
    mask = hidden(masking, x)
    rows, columns = slice(5, 9), slice(4, 7)  # whole tokens of the square
    assert mask[..., rows, columns].all()
    flipped = hidden(masking, x.flip(-1))
    assert flipped[..., rows, 7:10].all() and not flipped[..., rows, 3:6].all()
    moved = hidden(masking, x[..., 32:].repeat(1, 1, 1, 1, 2)[..., :224])
    assert moved[..., rows, 2:5].all()


def test_bottom_hides_what_top_leaves():
    x = torch.rand(2, 3, 8, 224, 224)

    class Ramp(nn.Module):  # no ties
        def forward(self, clips, captions, grid):
            return torch.linspace(0, 1, 2 * 4 * 196).view(2, *grid).flip(-1)

    top, bottom = (TextGuidedMasking(ORACLE, 0.5, order) for order in ('top', 'bottom'))
    top.guide = bottom.guide = Ramp()
    assert torch.equal(hidden(top, x), ~hidden(bottom, x))


def test_softness_goes_from_the_caption_to_chance():
    x = square()
    covered = []
    for softness in (0.0, 0.3, 1e4):
        torch.manual_seed(0)
        masks = torch.cat(
            [hidden(TextGuidedMasking(ORACLE, 0.1, softness=softness), x) for _ in range(20)]
        )
        covered.append(masks[..., 5:9, 4:7].float().mean().item())
    assert covered[0] == 1 and covered[0] > covered[1] > covered[2] and covered[2] < 0.2


def test_over_the_clip_slots_may_differ():
    x = square()
    x[:, :, 4:] = 0
    counts = hidden(TextGuidedMasking(ORACLE, 0.05, over='clip'), x).flatten(2).sum(dim=2)
    assert counts.sum() == int(0.05 * 784) and (counts[0, :2] > counts[0, 2:]).all()


def test_without_a_caption_as_many_are_hidden_at_random():
    masking, x = TextGuidedMasking(ORACLE, 0.1), square().repeat(2, 1, 1, 1, 1)
    mask = hidden(masking, x, ['', 'a square'])
    assert (mask.flatten(2).sum(dim=2) == 19).all()
    assert mask[1, :, 5:9, 4:7].all() and mask[0, :, 5:9, 4:7].float().mean() < 0.5
    assert not torch.equal(mask[0], hidden(masking, x, ['', 'a square'])[0])
    with pytest.raises(ValueError, match="needs the side input 'caption'"):
        masking.draw(Step(x, grid=(4, 14, 14)))


def test_the_named_object_is_covered_beside_random():
    """Generated clips with two objects side by side, of which the caption names one."""
    data = MovingShapesDataset(length=16, seed=5, size=64, captions=True, cache=False)
    clips = torch.stack([data[i]['inputs'] for i in range(16)]).float() / 255
    x = torch.cat([clips[:8], clips[8:]], dim=4)  # (8, 3, 8, 64, 128)
    grid = (4, 8, 16)
    captions = [f'{"left" if i % 2 else "right"}: {data[i]["data_samples"].caption}'
                for i in range(8)]  # fmt: skip
    guide = MODELS.build(dict(type='NamedHalfGuide'))
    named, both = guide(x, captions, grid) > 0.9, BrightnessGuide()(x, captions, grid) > 0.9
    mask = hidden(TextGuidedMasking(dict(type='NamedHalfGuide'), 0.4), x, captions, grid)
    torch.manual_seed(0)
    blind = ids_to_mask(RandomMasking(0.4)(8, grid).ids_mask, grid)
    covered, other, chance = mask[named].float().mean(), mask[both & ~named].float().mean(), 0.4
    assert covered > 0.95 and other < 0.3
    assert abs(blind[named].float().mean() - chance) < 0.05


def test_a_random_clip_guides_too(tmp_path):
    guide = dict(type='ClipGuide', checkpoint=str(write_clip(tmp_path / 'clip')))
    masking, x = TextGuidedMasking(guide), torch.rand(2, 3, 4, 24, 24)
    grid = (2, 6, 6)
    mask = hidden(masking, x, ['a star', 'a ring'], grid)
    assert (mask.flatten(2).sum(dim=2) == 21).all()
    other = hidden(masking, x, ['a disc that moves', 'a ring'], grid)
    assert not torch.equal(mask[0], other[0]) and torch.equal(mask[1], other[1])
    image = hidden(masking, x[:, :, 0], ['a star', 'a ring'], (1, 6, 6))
    assert image.shape == (2, 1, 6, 6)
