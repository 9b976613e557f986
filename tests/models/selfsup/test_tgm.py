"""Contrast of video and text as part of a pretrainer."""

import math
import sys
from pathlib import Path

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS
from mmengine.structures import BaseDataElement

from bimm_mm.engine.optimizers.layer_decay import LayerDecayOptimWrapperConstructor
from bimm_mm.models.selfsup.video_text_contrast import group_captions

sys.path.insert(0, str(Path(__file__).parent))
from conftest import CAPTIONS, masked_autoencoder, method_config, small_clip  # noqa: E402

pytest.importorskip('transformers', reason='needs transformers')


def contrast(**settings):
    text = dict(type='ClipTextEncoder', checkpoint=small_clip())
    return dict(type='VideoTextContrast', embed_dims=24, text=text, text_dims=8) | settings


def draw_clips(count):
    return torch.randn(count, 3, 4, 16, 16, generator=torch.Generator().manual_seed(0))


def test_reconstruction_and_contrast_both_learn():
    torch.manual_seed(0)
    model = MODELS.build(method_config('tgm'))
    samples = [BaseDataElement(metainfo=dict(caption=text)) for text in CAPTIONS]
    clips = [clip.mul(60).add(120).clamp(0, 255).byte() for clip in draw_clips(4)]
    optimizer = OptimWrapper(torch.optim.AdamW(model.parameters(), 3e-3))
    history = [
        model.train_step(dict(inputs=clips, data_samples=samples), optimizer) for _ in range(60)
    ]
    first, last = history[0], history[-1]
    assert set(first) == {'loss', 'loss_pixel', 'explained_pixel', 'loss_text', 'accuracy_text'}
    assert last['loss_pixel'] < 0.97 * first['loss_pixel']
    assert last['loss_text'] < 0.5 * first['loss_text'] and last['accuracy_text'] == 1


@pytest.mark.parametrize('masking', ['TubeMasking', 'FrameDifferenceMasking'])
def test_any_masking_with_the_contrast(masking):
    config = masked_autoencoder(dict(type=masking, ratio=0.5), objectives=[contrast()])
    losses = MODELS.build(config)(draw_clips(2), mode='loss', caption=CAPTIONS[:2])
    assert {'loss_pixel', 'loss_text'} <= set(losses)


def test_text_guided_masking_without_the_contrast():
    config = method_config('tgm') | dict(objectives=[])
    losses = MODELS.build(config)(draw_clips(2), mode='loss', caption=CAPTIONS[:2])
    assert set(losses) == {'loss_pixel', 'explained_pixel'}


def test_the_video_is_the_mean_of_the_visible_tokens():
    torch.manual_seed(0)
    config = masked_autoencoder(dict(type='TubeMasking', ratio=0.5), objectives=[contrast()])
    model = MODELS.build(config).eval()  # with a class token, which has no part in it
    step = model.steps(draw_clips(2), caption=CAPTIONS[:2])['masked']
    objective = model.objectives[0]
    assert step.features[-1].shape[1] == 1 + step.ids_keep.shape[1]
    mean = step.features[-1][:, 1:].mean(dim=1)
    wanted = objective.projection(objective.norm(mean))
    seen = []
    objective.projection.register_forward_hook(lambda module, inputs, output: seen.append(output))
    objective(dict(masked=step))
    torch.testing.assert_close(seen[0], wanted)


def test_the_temperature_stays_above_its_least_and_can_come_back():
    model = MODELS.build(method_config('tgm'))
    objective = model.objectives[0]
    assert math.isclose(objective.logit_scale.item(), math.log(1 / 0.07), rel_tol=1e-6)
    with torch.no_grad():
        objective.logit_scale.fill_(7.0)  # a temperature of 0.0009
    losses = model(draw_clips(2), mode='loss', caption=CAPTIONS[:2])
    losses['loss_text'].backward()
    assert objective.logit_scale.item() == pytest.approx(math.log(100))
    assert objective.logit_scale.grad.abs() > 0


def test_the_temperature_is_not_decayed():
    model = MODELS.build(method_config('tgm'))
    optim = dict(optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05))
    build = LayerDecayOptimWrapperConstructor(optim, dict(layer_decay_rate=1.0))
    for group in build(model).optimizer.param_groups:
        if any(p is model.objectives[0].logit_scale for p in group['params']):
            assert group['weight_decay'] == 0
            return
    raise AssertionError('the temperature is not trained')


def test_videos_without_a_caption_have_no_part_in_the_contrast():
    torch.manual_seed(0)
    model, clips = MODELS.build(method_config('tgm')).eval(), draw_clips(4)
    torch.manual_seed(1)
    losses = model(clips, mode='loss', caption=[*CAPTIONS[:2], '', ''])
    objective, found = model.objectives[0], []
    objective.projection.register_forward_hook(lambda module, inputs, output: found.append(output))
    torch.manual_seed(1)
    model(clips, mode='loss', caption=[*CAPTIONS[:2], '', ''])
    texts = objective.text(CAPTIONS[:2], 'cpu')
    from bimm_mm.models.losses import matching_loss

    wanted, _ = matching_loss(found[0][:2], texts, torch.arange(2), 0.07)
    torch.testing.assert_close(losses['loss_text'], wanted)
    nothing = model(clips, mode='loss', caption=[''] * 4)
    assert nothing['loss_text'] == 0


def test_equal_captions_have_equal_numbers():
    groups = group_captions(['a cat', 'a dog', 'a cat', ''])
    assert groups[0] == groups[2] != groups[1] and groups[3] == -1 and (groups[:3] >= 0).all()


@pytest.mark.parametrize('wrong', [dict(weight=0), dict(temperature=0.005)])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match='min_temperature=0.01 positive and at most'):
        MODELS.build(contrast(**wrong))


def test_captions_that_are_missing_are_asked_for():
    with pytest.raises(ValueError, match="needs the side input 'caption'.*caption_file"):
        MODELS.build(method_config('tgm'))(draw_clips(2), mode='loss')
