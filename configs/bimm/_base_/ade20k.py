# ADE20K, 150 classes: 512 x 512 pixels, 160k steps, 1500 of them warm-up, then linear decay (paper:
# section 4, appendix A). Augmentation and the scales of the multi-scale test are mmseg's for this
# size. 8 GPUs with 2 images each make the paper's batch of 16.
# The environment variable ADE20K says where the data set is.
_base_ = ['../../_base_/runtime.py']

custom_imports = dict(imports=['bimm_mm', 'bimm_mm.datasets.ade20k'])
default_scope = 'mmseg'

size = (512, 512)
ratios = [0.5, 0.75, 1.0, 1.25, 1.5, 1.75]  # of the multi-scale test
data_root = '{{$ADE20K:data/ade/ADEChallengeData2016}}'
train_dataloader = dict(
    batch_size=2,  # per GPU
    pin_memory=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='CheckedADE20KDataset',
        data_root=data_root,
        data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', reduce_zero_label=True),  # 0 is "other", not a class
            dict(type='RandomResize', scale=(2048, 512), ratio_range=(0.5, 2.0), keep_ratio=True),
            dict(type='RandomCrop', crop_size=size, cat_max_ratio=0.75),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PhotoMetricDistortion'),
            dict(type='PackSegInputs'),
        ],
    ),
)
val_dataloader = dict(
    batch_size=1,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CheckedADE20KDataset',
        data_root=data_root,
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(2048, 512), keep_ratio=True),
            # after Resize: labels keep the size of the photograph
            dict(type='LoadAnnotations', reduce_zero_label=True),
            dict(type='PackSegInputs'),
        ],
    ),
)
test_dataloader = val_dataloader

# The multi-scale test, python tools/test.py --tta: six scales, each with its mirror image.
tta_model = dict(type='SegTTAModel')
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [
                dict(type='Resize', scale=(int(2048 * r), int(512 * r)), keep_ratio=True)
                for r in ratios
            ],
            [
                dict(type='RandomFlip', prob=0.0, direction='horizontal'),
                dict(type='RandomFlip', prob=1.0, direction='horizontal'),
            ],
            [dict(type='LoadAnnotations', reduce_zero_label=True)],
            [dict(type='PackSegInputs')],
        ],
    ),
]

val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator

train_cfg = dict(type='IterBasedTrainLoop', max_iters=160000, val_interval=16000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    # linear, down to 0 at the end of the run
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=1500),
]

default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=16000, max_keep_ckpts=2, save_best='mIoU')
)
custom_hooks = [dict(type='FiniteLossHook')]
log_processor = dict(by_epoch=False)
visualizer = dict(
    _delete_=True,
    type='SegLocalVisualizer',
    vis_backends=[dict(type='LocalVisBackend')],
)
