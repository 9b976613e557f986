"""The linear probe: what it can read, and what it cannot."""

import pytest
import torch
from torch.utils.data import DataLoader

from bimm_mm.datasets import MovingShapesDataset
from bimm_mm.evaluation.functional.accuracy import Accuracy
from bimm_mm.evaluation.functional.features import mean_token_features
from bimm_mm.evaluation.functional.linear_probe import fit_linear_probe
from bimm_mm.models import BimmViT, ClipDataPreprocessor


def test_standard_error_is_that_of_a_share():
    assert Accuracy(0.5, 100, 0.25).error == pytest.approx(0.05)
    assert Accuracy(1.0, 5, 0.2).interval == pytest.approx((0.5655, 1.0), abs=1e-4)


def test_it_reads_what_is_linear_in_the_features_and_nothing_else():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(600, 5, generator=generator) * 100 + 7
    linear = (x[:, 0] + x[:, 1] > 14).long()
    parity = ((x[:, 0] > 7) ^ (x[:, 1] > 7)).long()
    for labels, low, high in ((linear, 0.95, 1.0), (parity, 0.35, 0.65)):
        accuracy = fit_linear_probe((x[:400], labels[:400]), (x[400:], labels[400:]))
        assert low <= accuracy.value <= high
        assert (accuracy.count, accuracy.chance) == (200, 0.5)


def test_features_are_the_mean_patch_tokens_of_each_stage_in_order():
    data = MovingShapesDataset(5)
    loader = DataLoader(data, batch_size=2, collate_fn=lambda batch: _collate(batch))
    arch = dict(embed_dims=24, depth=2, num_heads=2)
    backbone = BimmViT(
        arch, 32, 8, num_frames=8, stage_ends=(1, 2), out_type='raw', out_indices='stages'
    )
    preprocessor = ClipDataPreprocessor()
    features = mean_token_features(backbone, preprocessor, loader)
    clip = preprocessor(dict(inputs=[data[3]['inputs']]))['inputs']
    with torch.no_grad():
        stages = backbone.eval()(clip)
    expected = torch.cat([stage[0, 1:].mean(0) for stage in stages])
    torch.testing.assert_close(features[3], expected, rtol=1e-4, atol=1e-5)
    assert features.shape == (5, 48)


def _collate(batch):
    return dict(inputs=[sample['inputs'] for sample in batch])
