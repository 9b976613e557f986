"""Nearest neighbors: the vote by hand, and the tool on generated clips."""

import re
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS

from bimm_mm.evaluation.functional.features import encode_labeled
from bimm_mm.evaluation.functional.knn import knn_accuracy
from bimm_mm.models import BimmViT, ClipDataPreprocessor
from bimm_mm.models.checkpoints import load_encoder

REPO = Path(__file__).parents[2]
CONFIG = REPO / 'configs/bimm/demo/joint_shapes.py'


def unit(*degrees):
    angle = torch.deg2rad(torch.tensor(degrees, dtype=torch.float32))
    return (
        torch.stack([angle.cos(), angle.sin()], dim=1) * torch.arange(1, len(degrees) + 1)[:, None]
    )


def test_near_neighbors_outvote_far_ones_however_long_they_are():
    train = unit(0, 40, 50), torch.tensor([0, 1, 1])
    test = unit(1), torch.tensor([0])
    assert knn_accuracy(train, test, k=1).value == 1
    assert knn_accuracy(train, test, k=3, temperature=0.07).value == 1
    assert knn_accuracy(train, test, k=3, temperature=100.0).value == 0  # two against one


def test_accuracy_counts_all_samples_in_whatever_pieces():
    torch.manual_seed(0)
    train = torch.randn(60, 8), torch.arange(60) % 3
    test = torch.randn(50, 8), torch.arange(50) % 3
    whole, pieces = (knn_accuracy(train, test, chunk=chunk) for chunk in (50, 7))
    assert whole == pieces
    assert (whole.count, whole.chance) == (50, 1 / 3)
    assert knn_accuracy(train, train, k=1).value == 1


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(k=0), 'k=0 must be 1 to 3'),
        (dict(k=4), 'k=4 must be 1 to 3'),
        (dict(k=1, temperature=0), 'temperature=0 must be above 0'),
    ],
)
def test_bad_arguments(kwargs, message):
    data = unit(0, 40, 50), torch.tensor([0, 1, 1])
    with pytest.raises(ValueError, match=message):
        knn_accuracy(data, data, **kwargs)


def test_views_of_a_sample_are_averaged():
    from mmengine.structures import BaseDataElement

    torch.manual_seed(0)
    encoder = BimmViT(
        arch=dict(embed_dims=12, depth=1, num_heads=2), img_size=8, patch_size=4, num_frames=2
    )
    clips = torch.randint(256, (2, 3, 3, 2, 8, 8), dtype=torch.uint8)  # 2 samples of 3 views
    batch = dict(inputs=list(clips), data_samples=[BaseDataElement(gt_label=i) for i in (4, 7)])
    preprocessor = ClipDataPreprocessor()
    features, labels = encode_labeled(encoder, preprocessor, [batch], 'gt_label')
    with torch.no_grad():
        wanted = encoder(preprocessor(dict(inputs=clips))['inputs'])[0].view(2, 3, 12).mean(1)
    torch.testing.assert_close(features, wanted, rtol=1e-5, atol=1e-5)
    assert labels.tolist() == [4, 7]
    with pytest.raises(ValueError, match="label='motion' is not in a sample, it has .*gt_label"):
        encode_labeled(encoder, preprocessor, [batch], 'motion')


@pytest.fixture
def knn(monkeypatch, capsys):
    spec = spec_from_file_location('knn', REPO / 'tools/benchmarks/knn.py')
    tool = module_from_spec(spec)
    spec.loader.exec_module(tool)
    small = [f'probe_{split}.dataset.length=384' for split in ('train', 'test')]

    def run(*arguments):
        options = ('--cfg-options', *small)
        monkeypatch.setattr(sys, 'argv', ['knn.py', str(CONFIG), *arguments, *options])
        tool.main()
        return capsys.readouterr().out

    return run


def test_the_tool_on_moving_shapes(knn, tmp_path):
    from mmengine.config import Config

    model = MODELS.build(Config.fromfile(CONFIG).model)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'joint.pth')
    for arguments in (('--branch', 'dorsal'), (str(tmp_path / 'joint.pth'),)):
        text = knn(*arguments, '--label', 'texture', '--k', '5')
        assert text.startswith('texture: ')
        assert re.search(r' of 384 samples \(95 % interval .*\), k = 5 \(chance 25.0%\)', text)
    with pytest.raises(SystemExit, match="label='gt_label' is not in a sample"):
        knn()
    with pytest.raises(SystemExit, match='no checkpoint .*missing.pth'):
        knn(str(tmp_path / 'missing.pth'), '--label', 'texture')


def test_encoders_are_found_in_every_kind_of_checkpoint(tmp_path):
    arch = dict(arch=dict(embed_dims=12, depth=2, num_heads=2), img_size=8, patch_size=4)
    source = BimmViT(**arch, num_frames=2)
    for prefix in ('', 'backbone.', 'dorsal.backbone.'):
        state = {prefix + key: value for key, value in source.state_dict().items()}
        torch.save(state, tmp_path / 'c.pth')
        encoder = BimmViT(**arch, num_frames=2)
        load_encoder(encoder, tmp_path / 'c.pth')
        assert encoder.blocks[1].mlp.fc1.weight.equal(source.blocks[1].mlp.fc1.weight)
    with pytest.raises(ValueError, match='holds no ventral encoder'):
        load_encoder(encoder, tmp_path / 'c.pth', 'ventral')
    with pytest.raises(ValueError, match='does not fit the model'):
        load_encoder(BimmViT(**arch, num_frames=None), tmp_path / 'c.pth')
