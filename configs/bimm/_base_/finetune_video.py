# What all finetuning for action recognition has in common (paper: section 4, table 9): an encoder
# under mmaction2's Recognizer3D, which classifies the class token of the last block. Where the
# paper is silent, augmentation is VideoMAE's. Clips are 16 frames, every 4th, anywhere in the video
# (dense, as SlowFast), and flipped; tested on 5 clips of 3 crops (paper: table 9, Kinetics-400).
# Recipes add runtime.py, and name their data: lists have a line `path label` per video, as
# mmaction2's.
custom_imports = dict(imports=['bimm_mm', 'bimm_mm.datasets.labeled', 'bimm_mm.models.heads'])
default_scope = 'mmaction'

model = dict(
    type='Recognizer3D',
    backbone=dict(
        type='BimmViT',
        arch='base',
        img_size=224,
        num_frames=16,
        tubelet_size=2,
        stage_ends=(2, 4, 12),
        drop_path_rate=0.1,
        out_type='cls_token',
    ),
    cls_head=dict(type='BimmClsHead', in_channels=768, label_smooth_eps=0.1, average_clips='prob'),
    data_preprocessor=dict(
        type='ActionDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        format_shape='NCTHW',
        blending=dict(  # one of the two for each batch
            type='RandomBatchAugment',
            augments=[
                dict(type='MixupBlending', alpha=0.8),
                dict(type='CutmixBlending', alpha=1.0),
            ],
        ),
    ),
)

# From a decoded clip to the model's input.
packing = [dict(type='FormatShape', input_format='NCTHW'), dict(type='PackActionInputs')]
random_crop = [
    dict(type='RandomResizedCrop', area_range=(0.08, 1.0), aspect_ratio_range=(3 / 4, 4 / 3)),
    dict(type='Resize', scale=(224, 224), keep_ratio=False),
]
flip = [dict(type='Flip', flip_ratio=0.5)]
# 4 operations with probability 0.5 and magnitude 7 +- 0.5 of 10 (timm's rand-m7-n4-mstd0.5-inc1),
# the same for all frames of a clip
rand_augment = [
    dict(type='Resize', scale=(-1, 256)),
    dict(
        type='TransformBroadcaster',
        mapping=dict(img='imgs'),
        auto_remap=True,
        share_random_params=True,
        transforms=[
            dict(
                type='RandAugment',
                _scope_='mmpretrain',  # for the operations in it, too
                policies='timm_increasing',
                num_policies=4,
                magnitude_level=7,
                magnitude_std=0.5,
            )
        ],
    ),
]
# the same place in all frames, filled with noise that has the statistics of the normalization
random_erasing = [
    dict(
        type='RandomErasing',
        erase_prob=0.25,
        mode='rand',
        fill_color=[123.675, 116.28, 103.53],
        fill_std=[58.395, 57.12, 57.375],
    )
]
center_crop = [dict(type='Resize', scale=(-1, 224)), dict(type='CenterCrop', crop_size=224)]
three_crops = [dict(type='Resize', scale=(-1, 224)), dict(type='ThreeCrop', crop_size=224)]
augmentation = [*rand_augment, *random_crop, *flip, *random_erasing, *packing]
light_augmentation = [*random_crop, *flip, *packing]  # for probes

open_video = dict(type='VideoInit')
sample = dict(type='SampleFrames', clip_len=16, frame_interval=4, out_of_bound_opt='repeat_last')
decode = dict(type='VideoDecode')
loading = [open_video, sample, decode]

train_dataloader = dict(
    batch_size=16,  # videos per GPU; each gives num_repeats clips
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='repeat_pseudo_collate'),
    dataset=dict(type='RepeatedVideoDataset', num_repeats=2, pipeline=[*loading, *augmentation]),
)
val_dataloader = dict(
    batch_size=16,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='LabeledVideoDataset',
        test_mode=True,
        pipeline=[
            open_video,
            dict(sample, num_clips=1, test_mode=True),
            decode,
            *center_crop,
            *packing,
        ],
    ),
)
test_dataloader = dict(
    batch_size=1,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='LabeledVideoDataset',
        test_mode=True,
        pipeline=[
            open_video,
            dict(sample, num_clips=5, test_mode=True),
            decode,
            *three_crops,
            *packing,
        ],
    ),
)

# Each recipe sets the learning rate and the number of epochs.
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.75),
    optimizer=dict(type='AdamW', betas=(0.9, 0.999), weight_decay=0.05, fused=True),
)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-3,
        by_epoch=True,
        begin=0,
        end=5,
        convert_to_iter_based=True,
    ),
    dict(  # down to 0 at the end of the run, whatever max_epochs is
        type='CosineAnnealingLR',
        eta_min=0.0,
        by_epoch=True,
        begin=5,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(type='EpochBasedTrainLoop', val_interval=5)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

val_evaluator = dict(type='AccMetric')  # top-1, top-5 and mean class accuracy
test_evaluator = val_evaluator

custom_hooks = [dict(type='FiniteLossHook')]
