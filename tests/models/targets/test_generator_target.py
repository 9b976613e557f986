"""Target generators of mmpretrain as targets of ours."""

import pytest
import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS

from bimm_mm.models import GeneratorTarget

HOG = dict(type='mmpretrain.HOGGenerator')
needs_mmpretrain = pytest.importorskip('mmpretrain', reason='has the generators')


class Generator(BaseModule):
    """Mean colors of 4x4 patches, behind a class token, in a tuple with something else."""

    def __init__(self, class_token=True):
        super().__init__()
        self.class_token = class_token
        self.scale = torch.nn.Parameter(torch.ones(3))
        self.drop = torch.nn.Dropout(0.5)

    def forward(self, x):
        tokens = torch.nn.functional.avg_pool2d(x, 4).flatten(2).transpose(1, 2) * self.scale
        tokens = self.drop(tokens)
        if self.class_token:
            tokens = torch.cat([tokens.mean(1, keepdim=True) + 100, tokens], dim=1)
        return tokens, None


@pytest.fixture
def generator():
    MODELS.register_module(name='TestGenerator', module=Generator, force=True)
    yield dict(type='TestGenerator')
    MODELS.module_dict.pop('TestGenerator')


def test_tokens_are_the_generators_own():
    from mmpretrain.models import HOGGenerator

    target = GeneratorTarget(HOG, 108, 'hog')
    x = torch.randn(2, 3, 224, 224)
    wanted = HOGGenerator()(x)
    assert torch.equal(target(x), wanted)
    ids = torch.tensor([[5, 0, 195], [17, 18, 19]])
    picked = target(x, ids)
    assert picked.shape == (2, 3, 108)
    assert torch.equal(picked, torch.stack([row[i] for row, i in zip(wanted, ids, strict=True)]))
    assert (target.name, target.out_dims) == ('hog', 108)


def test_they_lie_where_the_branchs_tokens_lie():
    x = torch.zeros(1, 3, 112, 112)
    x[..., 8 * 3 + 2 : 8 * 3 + 6, 8 * 5 + 2 : 8 * 5 + 6] = 1  # within row 3, column 5
    target = GeneratorTarget(HOG, 27, patch_size=(1, 8, 8))
    assert target(x)[0].sum(dim=1).nonzero().flatten().tolist() == [3 * 14 + 5]


@pytest.mark.parametrize('class_token', [True, False])
def test_a_class_token_and_what_comes_besides_are_left_out(generator, class_token):
    target = GeneratorTarget(dict(generator, class_token=class_token), 3, patch_size=(1, 4, 4))
    x = torch.randn(2, 3, 16, 16)
    wanted = torch.nn.functional.avg_pool2d(x, 4).flatten(2).transpose(1, 2)
    torch.testing.assert_close(target(x), wanted)


def test_frames_of_a_tubelet_are_averaged(generator):
    target = GeneratorTarget(generator, 3, patch_size=(2, 4, 4))
    x = torch.randn(2, 3, 4, 16, 16)
    wanted = torch.nn.functional.avg_pool3d(x, (2, 4, 4)).flatten(2).transpose(1, 2)
    torch.testing.assert_close(target(x), wanted)
    ids = torch.tensor([[17, 3], [31, 0]])
    picked = torch.stack([row[i] for row, i in zip(wanted, ids, strict=True)])
    torch.testing.assert_close(target(x, ids), picked)


def test_the_generator_is_not_trained(generator):
    target = GeneratorTarget(generator, 3, patch_size=(1, 4, 4)).train()
    x = torch.randn(2, 3, 16, 16, requires_grad=True)
    assert torch.equal(target(x), target(x))  # no dropout
    assert not target(x).requires_grad
    assert not any(parameter.requires_grad for parameter in target.parameters())


@pytest.mark.parametrize(
    'size, patch, dims, message',
    [
        (224, 16, 64, r'14 x 14 tokens and out_dims=64 need \(1, 196, 64\)'),
        (448, 16, 108, r'shape \(1, 196, 432\), but 28 x 28 tokens'),
    ],
)
def test_what_does_not_fit_is_named(size, patch, dims, message):
    target = GeneratorTarget(HOG, dims, 'hog', patch_size=(1, patch, patch))
    with pytest.raises(ValueError, match=f"target 'hog': .*{message}"):
        target(torch.randn(1, 3, size, size))
