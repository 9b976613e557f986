import pytest
import torch
from mmengine.dataset import default_collate, pseudo_collate
from mmengine.structures import BaseDataElement

from bimm_mm.models import ClipDataPreprocessor


def sample(*shape):
    return torch.randint(0, 256, shape, dtype=torch.uint8)


@pytest.mark.parametrize('shape', [(3, 8, 8), (3, 4, 8, 8)])
@pytest.mark.parametrize('collate', [pseudo_collate, default_collate])
def test_samples_are_stacked_and_normalized(shape, collate):
    samples = [sample(*shape) for _ in range(2)]
    batch = ClipDataPreprocessor(mean=(10, 20, 30), std=(1, 2, 4))(
        collate([dict(inputs=x) for x in samples])
    )
    inputs = batch['inputs']
    assert (inputs.shape, inputs.dtype) == ((2, *shape), torch.float32)
    for x, result in zip(samples, inputs, strict=True):
        for channel, (mean, std) in enumerate([(10, 1), (20, 2), (30, 4)]):
            torch.testing.assert_close(result[channel], (x[channel].float() - mean) / std)


def test_clips_of_mmaction2_count_each():
    batch = ClipDataPreprocessor()(dict(inputs=[sample(2, 3, 4, 8, 8), sample(2, 3, 4, 8, 8)]))
    assert batch['inputs'].shape == (4, 3, 4, 8, 8)


def test_bgr():
    x = sample(3, 8, 8)
    plain = ClipDataPreprocessor()(dict(inputs=[x]))['inputs']
    turned = ClipDataPreprocessor(bgr_to_rgb=True)(dict(inputs=[x.flip(0)]))['inputs']
    assert torch.equal(plain, turned)


def test_other_entries_and_the_callers_batch_are_kept():
    samples = [BaseDataElement(metainfo=dict(label=3))]
    data = dict(inputs=[sample(3, 8, 8)], data_samples=samples)
    before = data['inputs'][0].clone()
    assert ClipDataPreprocessor()(data)['data_samples'][0].label == 3
    assert torch.equal(data['inputs'][0], before)


def test_statistics_are_not_part_of_checkpoints():
    assert not ClipDataPreprocessor().state_dict()


def test_samples_of_different_sizes():
    with pytest.raises(ValueError, match=r'inputs have different shapes, .*\(3, 8, 8\).*pipeline'):
        ClipDataPreprocessor()(dict(inputs=[sample(3, 8, 8), sample(3, 8, 9)]))


@pytest.mark.parametrize('shape', [(1, 8, 8), (3, 8), (8, 8, 3)])
def test_samples_that_are_no_images_or_clips(shape):
    with pytest.raises(ValueError, match=r'must be \(B, 3, H, W\)'):
        ClipDataPreprocessor()(dict(inputs=[sample(*shape)]))


@pytest.mark.parametrize('kwargs', [dict(mean=(1, 2)), dict(std=(1, 1)), dict(std=(1, 0, 1))])
def test_statistics_must_fit(kwargs):
    with pytest.raises(ValueError, match='must be three numbers each, std positive'):
        ClipDataPreprocessor(**kwargs)
