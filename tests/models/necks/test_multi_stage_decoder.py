import pytest
import torch

from bimm_mm.models import MultiStageDecoder

LINEAR = dict(type='LinearDecoder', embed_dims=8, predict='masked')
TRANSFORMER = dict(type='TransformerDecoder', embed_dims=8, depth=1, num_heads=2)
KEEP, MASK = torch.tensor([[0, 3]]), torch.tensor([[1, 2, 4, 5]])


def build(decoders=(LINEAR, TRANSFORMER), out_dims=(5, 7), num_stages=2, **kwargs):
    return MultiStageDecoder(decoders, 6, out_dims, (1, 2, 3), num_stages, **kwargs)


def test_each_stage_is_decoded_to_the_size_of_its_target():
    features = torch.randn(2, 1, 3, 6)
    neck = build()
    results = neck(features, KEEP, MASK)
    assert [r.shape for r in results] == [(1, 4, 5), (1, 4, 7)]
    for result, decoder, feature in zip(results, neck.decoders, features, strict=True):
        assert torch.equal(result, decoder(feature, KEEP, MASK))


def test_several_decoders_may_read_one_stage():
    """As for MotionMAE: pixels and motion at the last stage."""
    neck = build(stages=(0, 0), num_stages=1)
    features = [torch.randn(1, 3, 6)]
    results = neck(features, KEEP, MASK)
    assert torch.equal(results[1], neck.decoders[1](features[0], KEEP, MASK))
    assert [r.shape for r in results] == [(1, 4, 5), (1, 4, 7)]


def test_stages_name_what_each_decoder_reads():
    neck = build(stages=(1, 0))
    features = torch.randn(2, 1, 3, 6)
    assert torch.equal(neck(features, KEEP, MASK)[0], neck.decoders[0](features[1], KEEP, MASK))


def test_predicted_tokens_are_the_masked_ones_unless_a_decoder_says_otherwise():
    neck = build((dict(LINEAR, predict='visible'), TRANSFORMER))
    visible, masked = neck.predicted_ids(KEEP, MASK)
    assert visible is KEEP and masked is MASK
    assert neck(torch.randn(2, 1, 3, 6), KEEP, MASK)[0].shape == (1, 2, 5)


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(decoders=(LINEAR,)), 'decoders: 1 of them for 2 targets'),
        (dict(num_stages=3), 'decoders: 2 of them for 3 stages'),
        (dict(stages=(0, 1, 1)), 'decoders: 2 of them for 3 stages'),
        (dict(stages=(0, 2)), r'stages=\(0, 2\) must name each of the stages 0 to 1'),
        (dict(stages=(1, 1)), r'stages=\(1, 1\) must name each'),
    ],
)
def test_counts_that_do_not_fit(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(**kwargs)
