import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from torch import nn

import bimm_mm  # noqa: F401

BACKBONE = dict(
    type='BimmViT',
    arch=dict(embed_dims=24, depth=3, num_heads=2),
    img_size=16,
    patch_size=8,
    num_frames=4,
    stage_ends=(1, 2, 3),
    out_indices=(0, 2),
    out_type='avg_featmap',
)


class Model(nn.Module):
    """A backbone somewhere inside, and a head."""

    def __init__(self, prefix='backbone'):
        super().__init__()
        parts = prefix.split('.')
        inner = self
        for part in parts[:-1]:
            inner.add_module(part, nn.Module())
            inner = getattr(inner, part)
        inner.add_module(parts[-1], MODELS.build(BACKBONE))
        self.head = nn.Sequential(nn.LayerNorm(24), nn.Linear(24, 5))


def build(model, rate=0.5, **kwargs):
    cfg = dict(
        type='OptimWrapper',
        constructor='LayerDecayOptimWrapperConstructor',
        paramwise_cfg=dict(layer_decay_rate=rate) | kwargs,
        optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.05),
    )
    return build_optim_wrapper(model, cfg)


def settings(model, wrapper):
    """{name: (lr, weight decay)}; fails where a parameter is missing or met twice."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    found = [
        (names[parameter], (group['lr'], group['weight_decay']))
        for group in wrapper.optimizer.param_groups
        for parameter in group['params']
    ]
    assert len(found) == len(dict(found))
    return dict(found)


@pytest.mark.parametrize('prefix', ['backbone', 'model.backbone', 'detector.body.encoder'])
def test_each_layer_has_its_rate_whatever_the_prefix(prefix):
    model = Model(prefix)
    found = settings(model, build(model))
    assert set(found) == {name for name, _ in model.named_parameters()}
    wanted = {
        'cls_token': (0.5**4, 0),
        'patch_embed.projection.weight': (0.5**4, 0.05),
        'patch_embed.projection.bias': (0.5**4, 0),
        'blocks.0.attn.qkv.weight': (0.5**3, 0.05),
        'blocks.1.norm1.weight': (0.5**2, 0),
        'blocks.2.mlp.fc2.weight': (0.5, 0.05),
        'norm0.weight': (1, 0),
        'norm2.bias': (1, 0),
    }
    for name, value in wanted.items():
        assert found[f'{prefix}.{name}'] == value, name
    assert found['head.0.weight'] == (1, 0)
    assert found['head.1.weight'] == (1, 0.05)


def test_groups_are_merged():
    # 4 layers with and without decay, and the last with norms and head
    assert len(build(Model()).optimizer.param_groups) == 10
    assert len(build(Model(), rate=1).optimizer.param_groups) == 2


def test_rate_one_changes_no_learning_rate():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))  # without a backbone, too
    found = settings(model, build(model, rate=1))
    assert found == {'0.weight': (1, 0.05), '0.bias': (1, 0), '1.weight': (1, 0), '1.bias': (1, 0)}


def test_rate_one_asks_nobody_for_layers():
    """mmpretrain's models have get_layer_depth, which fails for a backbone that has none."""
    pytest.importorskip('mmpretrain')
    from mmpretrain.models import ImageClassifier

    model = ImageClassifier(dict(type='LeNet5', num_classes=2))
    found = settings(model, build(model, rate=1))
    assert set(found) == {name for name, _ in model.named_parameters()}


def test_frozen_parameters_are_left_out_and_shared_ones_counted_once():
    model = Model()
    model.backbone.patch_embed.requires_grad_(False)
    model.again = model.backbone.blocks[0]
    names = set(settings(model, build(model)))
    assert not any('patch_embed' in name for name in names)
    assert {n for n, p in model.named_parameters() if p.requires_grad} == names


def test_schedulers_scale_every_group():
    wrapper = build(Model())
    before = [group['lr'] for group in wrapper.optimizer.param_groups]
    scheduler = torch.optim.lr_scheduler.LambdaLR(wrapper.optimizer, lambda step: 0.1)
    wrapper.step()
    scheduler.step()
    after = [group['lr'] for group in wrapper.optimizer.param_groups]
    assert after == pytest.approx([0.1 * lr for lr in before])
    assert wrapper.get_lr()['base_lr'] == [1.0]  # what is logged: the undecayed rate


@pytest.mark.parametrize('scope', ['mmaction', 'mmdet', 'mmseg', 'mmpretrain'])
def test_found_from_every_scope(scope):
    pytest.importorskip(scope)
    with DefaultScope.overwrite_default_scope(scope):
        model = Model()
        assert settings(model, build(model))['backbone.cls_token'] == (0.5**4, 0)


def test_mmpretrains_constructor_gives_the_same_rates():
    pytest.importorskip('mmpretrain')
    from mmpretrain.models import ImageClassifier

    backbone = BACKBONE | dict(num_frames=None, out_indices=(2,))
    head = dict(type='LinearClsHead', num_classes=5, in_channels=24)
    model = ImageClassifier(backbone, head=head)
    cfg = dict(
        type='OptimWrapper',
        constructor='mmpretrain.LearningRateDecayOptimWrapperConstructor',
        paramwise_cfg=dict(layer_decay_rate=0.5, norm_decay_mult=0, bias_decay_mult=0),
        optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.05),
    )
    theirs = settings(model, build_optim_wrapper(model, cfg))
    ours = settings(model, build(model))
    # MAE spares the class token, mmpretrain's does so only by a custom key
    assert theirs.pop('backbone.cls_token')[0] == ours.pop('backbone.cls_token')[0]
    assert ours == theirs


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(rate=0), 'layer_decay_rate=0 must be above 0'),
        (dict(rate=1.5), 'at most 1'),
        (dict(norm_decay_mult=0), 'norm_decay_mult.*nothing else'),
    ],
)
def test_wrong_options(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(Model(), **kwargs)


def test_rate_without_layers_is_an_error():
    with pytest.raises(ValueError, match='Linear holds none'):
        build(nn.Linear(2, 2))
