"""Every way to divide an encoder into stages and to share blocks either trains or is refused."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mmengine.optim import OptimWrapper

from bimm_mm.models import BimmViT, DualBranchPretrainer, SingleBranchPretrainer

few = settings(max_examples=15, deadline=None, derandomize=True, database=None)
depths = st.integers(1, 5)
TARGETS = dict(
    ventral=('GaborTarget', 'EdgeContourTarget', 'PixelTarget'),
    dorsal=('GaborTarget', 'EdgeContourTarget', 'PixelTarget', 'MotionTarget'),
)
CLIPS = [torch.randint(0, 256, (3, 4, 8, 8), dtype=torch.uint8) for _ in range(2)]


def branch(name, depth, ends):
    video = name == 'dorsal'
    return dict(
        backbone=dict(
            type='BimmViT',
            arch=dict(embed_dims=12, depth=depth, num_heads=2),
            img_size=8,
            patch_size=4,
            num_frames=4 if video else None,
            stage_ends=ends,
        ),
        masking=dict(type='TubeMasking' if video else 'RandomMasking', ratio=0.5),
        neck=dict(
            type='MultiStageDecoder',
            decoders=[dict(type='LinearDecoder', embed_dims=6, predict='visible')] * len(ends),
        ),
        targets=[dict(type=kind) for kind in TARGETS[name][-len(ends) :]],
    )


def train_one_step(model):
    """A step that must change every parameter, and only finitely."""
    before = {name: value.clone() for name, value in model.named_parameters()}
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    logged = model.train_step(dict(inputs=CLIPS, data_samples=[None, None]), optimizer)
    assert logged['loss'].isfinite()
    for name, value in model.named_parameters():
        assert value.isfinite().all(), name
        assert not torch.equal(value, before[name]), name


@st.composite
def divisions(draw, depth, most):
    """Valid stage_ends of an encoder."""
    inner = draw(st.sets(st.integers(1, depth - 1), max_size=most - 1)) if depth > 1 else ()
    return (*sorted(inner), depth)


@few
@given(st.data(), depths, st.sampled_from(['ventral', 'dorsal']))
def test_any_division_trains_alone(data, depth, name):
    ends = data.draw(divisions(depth, len(TARGETS[name])))
    model = SingleBranchPretrainer(**{name: branch(name, depth, ends)})
    assert model.branches[name].backbone.num_stages == len(ends)
    train_one_step(model)


@few
@given(st.data(), depths)
def test_any_division_and_share_trains_jointly(data, depth):
    ventral, dorsal = data.draw(divisions(depth, 3)), data.draw(divisions(depth, 4))
    shares = ['none', 'all', *range(depth + 1)]
    if len(ventral) > 1 and ventral[-2:-1] == dorsal[-2:-1]:
        shares.append('partial')
    share = data.draw(st.sampled_from(shares))
    model = DualBranchPretrainer(
        branch('ventral', depth, ventral), branch('dorsal', depth, dorsal), share=share
    )
    wanted = {'none': 0, 'all': depth, 'partial': ventral[-2] if len(ventral) > 1 else None}
    backbones = [part.backbone.blocks for part in model.branches.values()]
    same = [first is second for first, second in zip(*backbones, strict=True)]
    assert same == [index < wanted.get(share, share) for index in range(depth)]
    train_one_step(model)


@few
@given(depths, st.lists(st.integers(-2, 7), max_size=5))
def test_any_other_division_is_refused(depth, ends):
    assume(ends != sorted(set(ends)) or not ends or ends[0] < 1 or ends[-1] != depth)
    with pytest.raises(ValueError, match=r'^stage_ends=\('):
        BimmViT(arch=dict(embed_dims=12, depth=depth, num_heads=2), img_size=16, stage_ends=ends)


others = st.one_of(
    st.integers(-3, -1),
    st.integers(6, 99),
    st.text('abn', max_size=4),
    st.sampled_from([None, True, False, 1.0, 'Partial', 'shared']),
)


@few
@given(depths, others)
def test_any_other_share_is_refused(depth, share):
    branches = [branch(name, depth, (depth,)) for name in ('ventral', 'dorsal')]
    with pytest.raises(ValueError, match='^share='):
        DualBranchPretrainer(*branches, share=share)


@few
@given(st.data(), depths)
def test_partial_needs_the_last_stages_to_start_together(data, depth):
    ventral, dorsal = data.draw(divisions(depth, 3)), data.draw(divisions(depth, 4))
    assume(len(ventral) == 1 or ventral[-2:-1] != dorsal[-2:-1])
    branches = branch('ventral', depth, ventral), branch('dorsal', depth, dorsal)
    with pytest.raises(ValueError, match="^share='partial' "):
        DualBranchPretrainer(*branches, share='partial')


@few
@given(st.data(), depths, st.integers(1, 4))
def test_the_number_of_decoders_must_be_that_of_stages(data, depth, count):
    ends = data.draw(divisions(depth, 3))
    assume(count != len(ends))
    config = branch('dorsal', depth, ends)
    config['neck']['decoders'] = [
        dict(type='LinearDecoder', embed_dims=6, predict='visible')
    ] * count
    with pytest.raises(ValueError, match=f'^decoders: {count} of them '):
        SingleBranchPretrainer(dorsal=config)
