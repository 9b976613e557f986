# What all detectors on COCO 2017 have in common: the ventral encoder with windowed attention and a
# simple feature pyramid (ViTDet), 1024 x 1024 pixels with large-scale jitter, and the paper's
# schedule (section 4, appendix A): 36 epochs, lr x 0.1 at the epochs 27 and 33, AdamW, lr 1e-4,
# weight decay 0.05. Our choices, as the paper is silent: all that ViTDet does (windows of 14 x 14
# tokens, four global blocks, drop path 0.1, layer decay 0.7 for ViT-B, jitter, LayerNorm in the
# neck), 8 GPUs with 2 images each, and mmdet's warm-up of 500 steps.
#
# Starts from the ventral encoder of a joint checkpoint. From that of stage 1 alone:
#   --cfg-options model.backbone.init_cfg.checkpoint=work_dirs/ventral_in1k_vitb/epoch_800.pth
# An exported encoder:
#   --cfg-options model.backbone.init_cfg.checkpoint=encoder.pth model.backbone.init_cfg.prefix=None
# From scratch: --cfg-options model.backbone.init_cfg=None
#
# The environment variable COCO says where the data set is. Recipes add runtime.py.
custom_imports = dict(imports=['bimm_mm', 'bimm_mm.datasets.coco', 'bimm_mm.engine.float32_heads'])
default_scope = 'mmdet'

size = (1024, 1024)
pretrained = 'work_dirs/joint_k400_vitb/epoch_800.pth'
model = dict(
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_mask=True,
        # No image is larger, so all are padded to this size: at test, too, tokens have the
        # positions that they had in training.
        pad_size_divisor=1024,
    ),
    backbone=dict(
        type='BimmViT',
        arch='base',
        img_size=1024,
        stage_ends=(2, 4, 12),
        drop_path_rate=0.1,
        out_type='featmap',  # (B, C, 64, 64)
        window_size=14,
        global_blocks=(2, 5, 8, 11),
        with_cp=True,  # recompute activations in the backward pass: less memory, more time
        init_cfg=dict(type='Pretrained', checkpoint=pretrained, prefix='ventral.backbone.'),
    ),
    neck=dict(type='SimpleFeaturePyramid', in_channels=768, out_channels=256),
)

# With masks; a detector without masks takes load_boxes instead of load_masks.
load_image = dict(type='LoadImageFromFile')
load_masks = dict(type='LoadAnnotations', with_bbox=True, with_mask=True)
load_boxes = dict(type='LoadAnnotations', with_bbox=True)
jitter = [
    dict(type='RandomResize', scale=size, ratio_range=(0.1, 2.0), keep_ratio=True),
    dict(
        type='RandomCrop',
        crop_type='absolute',
        crop_size=size,
        recompute_bbox=True,
        allow_negative_crop=True,
    ),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(1e-2, 1e-2)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]

data_root = '{{$COCO:data/coco}}'
train_dataloader = dict(
    batch_size=2,  # per GPU
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CheckedCocoDataset',
        data_root=data_root,
        ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017'),
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=[load_image, load_masks, *jitter],
    ),
)
val_dataloader = dict(
    batch_size=1,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CheckedCocoDataset',
        data_root=data_root,
        ann_file='annotations/instances_val2017.json',
        data_prefix=dict(img='val2017'),
        test_mode=True,
        pipeline=[
            load_image,
            dict(type='Resize', scale=size, keep_ratio=True),
            dict(
                type='PackDetInputs',
                meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
            ),
        ],
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(
    type='CocoMetric',
    ann_file=f'{data_root}/annotations/instances_val2017.json',
    metric=['bbox', 'segm'],  # box AP and mask AP
)
test_evaluator = val_evaluator

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=36, val_interval=3)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05, fused=True),
    constructor='LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.7),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', by_epoch=True, begin=0, milestones=[27, 33]),
]
auto_scale_lr = dict(enable=False, base_batch_size=16)  # what that lr is for

custom_hooks = [
    dict(type='FiniteLossHook'),
    dict(type='Float32HeadsHook'),  # boxes are float32 with --amp, too
]
