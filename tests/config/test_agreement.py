"""Settings that must agree are compared, and what to paste makes them agree."""

import re

import pytest
from mmengine.config import Config
from torch import nn

import bimm_mm  # noqa: F401
from bimm_mm.config.agreement import class_problems, remarks, width_problems
from bimm_mm.config.loading import merge_config
from bimm_mm.config.model import model_problems

LOOPS = ('train', 'val', 'test')


def pasted(line: str) -> dict:
    """The overrides that a line says to paste."""
    options = line.partition('--cfg-options ')[2].split()
    return {key: int(value) for key, _, value in (option.partition('=') for option in options)}


def classifier(head: int = 5, mixing: int = 5, data: int = 5) -> dict:
    return dict(
        model=dict(
            cls_head=dict(num_classes=head),
            data_preprocessor=dict(blending=dict(augments=[dict(num_classes=mixing)])),
        ),
        train_dataloader=dict(dataset=dict(num_classes=data)),
        val_dataloader=dict(dataset=dict(dataset=dict(num_classes=data))),
    )


@pytest.mark.parametrize('numbers', [dict(mixing=101), dict(data=101), dict(mixing=7, data=101)])
def test_numbers_of_classes_are_compared_and_the_override_makes_them_agree(numbers):
    cfg = Config(classifier(**numbers))
    (line,) = class_problems(cfg, LOOPS)
    assert line.startswith('model.cls_head.num_classes=5, but ')
    cfg.merge_from_dict(pasted(line))
    assert class_problems(cfg, LOOPS) == []


def test_data_of_a_loop_that_does_not_run_are_left_alone():
    cfg = Config(classifier(data=101))
    assert class_problems(cfg, ('test',)) == []


def test_a_recipes_variable_is_what_to_paste(request):
    path = str(request.config.rootpath / 'configs/bimm/finetune_own_vitb.py')
    cfg = merge_config(path, {'model.cls_head.num_classes': 7})
    (line,) = class_problems(cfg, LOOPS)
    assert line.endswith('Paste: --cfg-options num_classes=7')
    assert class_problems(merge_config(path, pasted(line)), LOOPS) == []


def test_a_head_of_another_width_than_the_encoder_is_told():
    model, cfg = nn.Module(), Config()
    model.backbone, model.cls_head = nn.Module(), nn.Module()
    model.backbone.embed_dims, model.cls_head.in_channels = 192, 768
    (line,) = width_problems(cfg, model)
    assert 'model.cls_head.in_channels=768' in line and '192 channels' in line
    assert pasted(line) == {'model.cls_head.in_channels': 192}
    model.cls_head.in_channels = 192
    assert width_problems(cfg, model) == []


def pretraining(size: int = 32, frames: int = 4) -> Config:
    pipeline = [
        dict(type='mmaction.SampleFrames', clip_len=frames),
        dict(type='mmaction.Resize', scale=(-1, 40)),
        dict(type='mmaction.MultiScaleCrop', input_size=36),
        dict(type='mmaction.Resize', scale=(size, size), keep_ratio=False),
        dict(type='mmaction.Flip'),
    ]
    backbone = dict(
        type='BimmViT',
        arch=dict(embed_dims=24, depth=2, num_heads=2),
        img_size=32,
        patch_size=16,
        num_frames=4,
        stage_ends=(2,),
    )
    branch = dict(
        backbone=backbone,
        masking=dict(type='TubeMasking', ratio=0.5),
        neck=dict(type='MultiStageDecoder', decoders=[dict(type='LinearDecoder', embed_dims=8)]),
        targets=[dict(type='PixelTarget')],
    )
    model = dict(type='SingleBranchPretrainer', dorsal=branch)
    return Config(dict(model=model, train_dataloader=dict(dataset=dict(pipeline=pipeline))))


@pytest.mark.parametrize(
    'changed, said, option',
    [
        (dict(size=48), 'scale=(48, 48), but model.dorsal.backbone needs 32x32 pixels', 'img_size'),
        (dict(frames=8), 'clip_len=8, but model.dorsal.backbone needs 4 frames', 'num_frames'),
    ],
)
def test_clips_of_another_size_than_a_pretraining_needs_are_told(changed, said, option):
    assert model_problems(pretraining()) == []
    cfg = pretraining(**changed)
    (line,) = model_problems(cfg)
    assert said in line and f'model.dorsal.backbone.{option}=' in line
    cfg.merge_from_dict(pasted(line))
    assert model_problems(cfg) == []


def test_a_frame_more_is_right_where_motion_is_predicted():
    cfg = pretraining(frames=5)
    assert 'needs 4 frames' in model_problems(cfg)[0]
    cfg.model.dorsal.targets = [dict(type='MotionTarget')]
    assert model_problems(cfg) == []
    cfg.train_dataloader = pretraining(frames=6).train_dataloader
    assert 'needs 4 frames' in model_problems(cfg)[0]


def test_stages_beyond_the_last_block_are_told():
    cfg = pretraining()
    cfg.model.dorsal.backbone.stage_ends = (1, 12)
    (line,) = model_problems(cfg)
    assert 'stage_ends=(1, 12) must increase from at least 1 up to the depth, 2' in line


@pytest.mark.parametrize(
    'batch, processes, scaled, said',
    [
        (8, 1, False, '8: --auto-scale-lr makes it 6.25e-05'),
        (8, 16, False, None),
        (8, 1, True, None),
    ],
)
def test_a_rate_for_another_batch_is_remarked(batch, processes, scaled, said):
    cfg = Config(
        dict(
            auto_scale_lr=dict(base_batch_size=128),
            train_dataloader=dict(batch_size=batch),
            optim_wrapper=dict(optimizer=dict(lr=1e-3)),
        )
    )
    lines = remarks(cfg, processes, scaled)
    assert len(lines) == bool(said) and all(said in line for line in lines)


@pytest.mark.parametrize('length, by_epoch, told', [(3, True, 1), (5, True, 0), (3, False, 1)])
def test_checkpoints_further_apart_than_the_run_is_long_are_remarked(length, by_epoch, told):
    key = 'max_epochs' if by_epoch else 'max_iters'
    checkpoint = dict(interval=5, by_epoch=by_epoch)
    cfg = Config({'default_hooks': dict(checkpoint=checkpoint), 'train_cfg': {key: length}})
    lines = remarks(cfg, 1)
    assert len(lines) == told
    for line in lines:
        assert re.search(r'interval=5, but the run has 3', line)
        cfg.merge_from_dict(pasted(line))
        assert remarks(cfg, 1) == []


def test_a_start_from_scratch_is_remarked_but_not_where_a_run_goes_on():
    cfg = Config(dict(model=dict(type='DualBranchPretrainer', init_dorsal_from=None)))
    (line,) = remarks(cfg, 1)
    assert 'both branches start from scratch' in line
    assert remarks(cfg, 1, resumed=True) == []
    cfg.model.init_dorsal_from = 'ventral.pth'
    assert remarks(cfg, 1) == remarks(Config(dict(model=dict(type='BimmViT'))), 1) == []


def test_mixed_precision_on_a_cpu_is_remarked_upon():
    cfg = Config(dict(optim_wrapper=dict(type='CpuAmpOptimWrapper', dtype='bfloat16')))
    (line,) = remarks(cfg, 1)
    assert line == '--amp: no accelerator was found; the CPU computes in bfloat16'
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    assert remarks(cfg, 1) == []
