"""Blocks, cubes, running cells and multi-blocks: exact counts, and what each is by its source."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS

from bimm_mm.models import (
    BimmViT,
    BlockMasking,
    CubeMasking,
    MultiBlockMasking,
    RunningCellMasking,
    Step,
    TubeMasking,
)
from bimm_mm.models.layers import ids_to_mask
from bimm_mm.models.masking.guided import GuidedMasking, mask_by_scores

GRID = (8, 14, 14)
BLIND = [
    dict(type='FrameMasking', ratio=0.75),
    dict(type='BlockMasking', ratio=0.5),
    dict(type='BlockMasking', ratio=0.5, span=(0.5, 1)),
    dict(type='CubeMasking', ratio=0.4),
    dict(type='RunningCellMasking', ratio=0.25),
]
COUNTS = [6 * 196, 8 * 98, None, 627, 8 * 49]


def draw(config, batch=16, grid=GRID, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return MODELS.build(config)(batch, grid, generator=generator)


@pytest.mark.parametrize('config, count', list(zip(BLIND, COUNTS, strict=True)))
def test_masks_are_exact_ascending_and_complete(config, count):
    for seed in range(3):
        keep, mask = draw(config, seed=seed)
        assert mask.shape[1] == count or count is None
        assert (keep.diff() > 0).all() and (mask.diff() > 0).all()
        everything = torch.cat([keep, mask], 1).sort().values
        assert torch.equal(everything, torch.arange(8 * 196).repeat(16, 1))


@pytest.mark.parametrize('config', [*BLIND, dict(type='MultiBlockMasking')])
def test_masks_follow_the_generator_and_nothing_else(config):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    pairs = [tuple(draw(config, seed=seed)) for seed in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(*pairs[:2], strict=True))
    assert pairs[0][1].shape != pairs[2][1].shape or not torch.equal(pairs[0][1], pairs[2][1])


@pytest.mark.parametrize('config', [c for c in BLIND if c['type'] != 'RunningCellMasking'])
def test_samples_of_a_batch_differ(config):
    assert len(draw(config).ids_mask.unique(dim=0)) > 5


@pytest.mark.parametrize('config', [c for c in BLIND if 'span' not in c])
def test_masks_are_made_on_the_device(config):
    keep, mask = MODELS.build(config)(2, GRID, device='meta')
    assert keep.device.type == mask.device.type == 'meta'


@pytest.mark.parametrize('masked', [75, 98])
def test_blocks_of_beit_and_cae(masked):
    """Exactly as many, the same in every frame, and in blocks: most neighbors agree."""
    masks = BlockMasking(masked / 196, min_area=16)(64, GRID)
    hidden = ids_to_mask(masks.ids_mask, GRID)
    assert (hidden.flatten(2).sum(dim=2) == masked).all()
    assert (hidden == hidden[:, :1]).all()
    agree = (hidden[..., 1:] == hidden[..., :-1]).float().mean()
    scattered = ids_to_mask(TubeMasking(masked / 196)(64, GRID).ids_mask, GRID)
    assert agree > 0.85 > (scattered[..., 1:] == scattered[..., :-1]).float().mean() + 0.2


def test_every_place_is_masked_by_blocks_now_and_then():
    hidden = ids_to_mask(BlockMasking(0.5)(1000, (1, 14, 14)).ids_mask, (1, 14, 14)).float()
    share = hidden.mean(dim=0)
    assert 0.02 < share.min() and share.max() < 0.98  # seldom in the corners


@pytest.mark.parametrize('tries', [1, 60])
def test_with_few_tries_the_number_is_reached_next_to_the_blocks(tries):
    masks = BlockMasking(0.5, tries=tries)(32, (1, 14, 14))
    assert masks.ids_mask.shape == (32, 98)
    hidden = ids_to_mask(masks.ids_mask, (1, 14, 14)).float()
    kernel = torch.ones(1, 1, 3, 3)
    neighbors = F.conv2d(hidden, kernel, padding=1) - hidden
    assert (neighbors[hidden.bool()] > 0).float().mean() > 0.95  # few stand alone


def test_a_span_of_frames_wraps_around():
    """BEVT: one block in a run of half to all of the frames, which goes on at the beginning."""
    wrapped = 0
    for seed in range(8):
        masks = draw(dict(type='BlockMasking', ratio=0.5, span=(0.5, 1)), seed=seed)
        hidden = ids_to_mask(masks.ids_mask, GRID).flatten(2)
        counts = hidden.sum(dim=2)  # (B, T')
        length = masks.ids_mask.shape[1] // 98
        assert 4 <= length <= 8 and ((counts == 98).sum(dim=1) == length).all()
        starts = ((counts > 0) & (counts.roll(1, dims=1) == 0)).sum(dim=1)
        assert (starts == (length < 8)).all()  # one run, in a circle
        wrapped += int(((counts[:, 0] > 0) & (counts[:, -1] > 0) & (length < 8)).sum())
        pattern = hidden.any(dim=1, keepdim=True)
        assert (hidden == pattern)[counts > 0].all()
    assert wrapped > 5


def test_cubes_are_contiguous_in_space_and_time():
    hidden = ids_to_mask(CubeMasking(0.4)(64, (8, 7, 7)).ids_mask, (8, 7, 7))
    assert (hidden.flatten(1).sum(dim=1) == 157).all()  # MaskFeat: round(0.4 * 392)
    for axis in (1, 2, 3):
        length = hidden.shape[axis] - 1
        agree = hidden.narrow(axis, 0, length) == hidden.narrow(axis, 1, length)
        assert agree.float().mean() > 0.75  # 0.52 for random tokens


# running cells -----------------------------------------------------------------------------------


@pytest.mark.parametrize('ratio', [0.25, 0.5, 0.75])
def test_every_patch_is_decoded_equally_often_in_any_four_frames(ratio):
    hidden = ids_to_mask(RunningCellMasking(ratio)(8, GRID).ids_mask, GRID).int()
    for start in range(5):
        assert (hidden[:, start : start + 4].sum(dim=1) == 4 * ratio).all()


def test_the_patterns_of_videomae_v2():
    """[1 1/0 0], [1 0/0 1], [0 0/1 1], [0 1/1 0], where 1 is not decoded, from any of them on."""
    kept = ~ids_to_mask(RunningCellMasking(0.5)(32, (4, 2, 2)).ids_mask, (4, 2, 2))
    cycle = [[1, 1, 0, 0], [1, 0, 0, 1], [0, 0, 1, 1], [0, 1, 1, 0]]
    wanted = [sum(cycle[start:] + cycle[:start], []) for start in range(4)]
    found = [row.flatten().int().tolist() for row in kept]
    assert all(row in wanted for row in found) and all(row in found for row in wanted)


def test_cells_need_even_sides_and_quarters():
    with pytest.raises(ValueError, match='even numbers of rows and columns'):
        RunningCellMasking()(1, (8, 7, 14))
    with pytest.raises(ValueError, match='ratio=0.6 must be 0.25, 0.5 or 0.75'):
        RunningCellMasking(0.6)


def test_the_decoder_of_videomae_v2_predicts_what_it_decodes_and_the_encoder_did_not_see():
    model = MODELS.build(
        dict(
            type='MaskedPretrainer',
            backbone=dict(
                type='BimmViT',
                arch=dict(embed_dims=24, depth=1, num_heads=2),
                img_size=32,
                patch_size=8,
                num_frames=8,
                stage_ends=(1,),
            ),
            masking=dict(type='TubeMasking', ratio=0.75),
            decoder_masking=dict(type='RunningCellMasking', ratio=0.5),
            neck=dict(
                type='MultiStageDecoder',
                decoders=[dict(type='TransformerDecoder', embed_dims=12, depth=1, num_heads=2)],
            ),
            targets=[dict(type='PixelTarget')],
        )
    )
    x = torch.randn(2, 3, 8, 32, 32)
    step = model.steps(x)['masked']
    ids, weight = step.ids['pixel'], step.weights['pixel']
    assert ids.shape == weight.shape == (2, 32)  # half of 64
    hidden = ids_to_mask(step.ids_mask, (4, 4, 4)).flatten(1)
    assert torch.equal(weight.bool(), hidden.gather(1, ids))
    assert 0 < weight.mean() < 1
    error = (step.predictions['pixel'] - step.targets['pixel'])[weight.bool()].square().mean()
    torch.testing.assert_close(model.losses(step)['loss_pixel'], error)
    step = model.eval().steps(x)['masked']
    assert torch.equal(step.ids['pixel'], step.ids_mask) and not step.weights


# V-JEPA ------------------------------------------------------------------------------------------


def test_multi_blocks_split_the_clip_up_to_what_is_cut_off():
    masking = MultiBlockMasking(num_blocks=8)
    keep, mask = masking(64, GRID, generator=torch.Generator().manual_seed(0))
    seen, hidden = (ids_to_mask(ids, GRID) for ids in (keep, mask))
    assert not (seen & hidden).any()  # union and complement are disjoint
    complete = (seen | hidden).flatten(1).all(dim=1)
    assert not complete.all()  # rows are cut to the shortest one
    assert seen.flatten(2).any(dim=2).any() and (keep.diff() > 0).all() and (mask.diff() > 0).all()


@pytest.mark.parametrize('blocks, scale, coverage', [(8, 0.15, 0.63), (2, 0.7, 0.81)])
def test_coverage_of_v_jepas_masks(blocks, scale, coverage):
    """Of the union, before rows are cut: one sample at a time."""
    masking = MultiBlockMasking(blocks, (scale, scale))
    generator = torch.Generator().manual_seed(0)
    shares = [
        masking(1, (1, 14, 14), generator=generator).ids_mask.shape[1] / 196 for _ in range(400)
    ]
    assert sum(shares) / 400 == pytest.approx(coverage, abs=0.03)


def test_blocks_that_fill_the_clip_leave_something_visible_or_are_refused():
    with pytest.raises(ValueError, match='make spatial_scale smaller'):
        MultiBlockMasking(1, (1.0, 1.0), aspect_ratio=(1, 1))(1, (2, 4, 4))
    keep, _ = MultiBlockMasking(40, (0.5, 0.5))(16, (1, 4, 4))
    assert keep.shape[1] >= 1


# guided ------------------------------------------------------------------------------------------


class BySide(GuidedMasking):
    def scores(self, step):
        return step.side['scores']


def guided_step(scores):
    return Step(torch.zeros(len(scores), 3, 2, 4, 4), grid=(2, 4, 4), side=dict(scores=scores))


@pytest.mark.parametrize('order', ['top', 'bottom'])
def test_the_highest_or_lowest_scores_of_each_frame_are_masked(order):
    scores = torch.rand(3, 2, 4, 4)
    masks = BySide(ratio=0.6, order=order).draw(guided_step(scores))
    hidden = ids_to_mask(masks.ids_mask, (2, 4, 4))
    assert (hidden.flatten(2).sum(dim=2) == 9).all()  # floor(0.6 * 16)
    sign = 1 if order == 'top' else -1
    assert (sign * scores)[hidden].min() > (sign * scores)[~hidden].quantile(0.5)
    for sample in range(3):
        for frame in range(2):
            low = (sign * scores)[sample, frame][hidden[sample, frame]].min()
            assert low >= (sign * scores)[sample, frame][~hidden[sample, frame]].max()


def test_softness_goes_from_the_scores_to_chance():
    scores = torch.zeros(200, 2, 4, 4)
    scores[..., :2, :] = 1.0
    share = []
    for softness in (0, 0.5, 100):
        masks = BySide(ratio=0.5, softness=softness).draw(guided_step(scores))
        share.append(ids_to_mask(masks.ids_mask, (2, 4, 4))[:, :, :2].float().mean().item())
    assert share[0] == 1.0 > share[1] > share[2] == pytest.approx(0.5, abs=0.05)


def test_equal_scores_mask_the_first_tokens():
    masks = mask_by_scores(torch.zeros(1, 2, 4), 2)
    assert masks.ids_mask.tolist() == [[0, 1, 4, 5]]


@pytest.mark.parametrize(
    'config, message',
    [
        (dict(type='BlockMasking', ratio=1.2), 'ratio=1.2 must lie between 0 and 1'),
        (dict(type='BlockMasking', min_aspect=0), 'min_aspect=0 must be more than 0'),
        (dict(type='BlockMasking', span=(0.8, 0.5)), r'span=\(0.8, 0.5\) must be two shares'),
        (dict(type='BlockMasking', tries=0), 'tries=0 must be at least 1'),
        (dict(type='CubeMasking', tries=0), 'tries=0 at least 1'),
        (dict(type='MultiBlockMasking', num_blocks=0), 'num_blocks=0 must be at least 1'),
        (dict(type='MultiBlockMasking', spatial_scale=(0.5, 0.2)), 'spatial_scale=.* low <= high'),
    ],
)
def test_bad_arguments(config, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build(config)


def test_an_encoder_that_drops_tokens_takes_all_of_them():
    """Rows are rectangular."""
    encoder = BimmViT(
        dict(embed_dims=12, depth=1, num_heads=1), 32, 8, num_frames=8, out_type='raw'
    )
    x = torch.randn(3, 3, 8, 32, 32)
    for config in (*BLIND, dict(type='MultiBlockMasking', num_blocks=2)):
        keep, _ = draw(config, 3, (4, 4, 4))
        assert encoder(x, keep)[-1].shape == (3, 1 + keep.shape[1], 12)
