# Finetuning the encoder that the demo pretrained, on few labelled clips; tested on new ones. Needs
# mmaction2, and the checkpoint that tools/demo.py writes.
#   python tools/train.py configs/bimm/demo/finetune_shapes.py
# The same encoder from scratch: --cfg-options start=None; other labels, 'motion' or 'texture':
# --cfg-options label=texture
# Shape and texture gain from pretraining. Motion does not, at this size: 100 steps teach all of it
# from scratch, and less to the pretrained encoder.
_base_ = ['../../_base_/runtime.py']

custom_imports = dict(
    imports=['bimm_mm', 'bimm_mm.datasets.labeled_shapes', 'bimm_mm.models.heads']
)
default_scope = 'mmaction'

label = 'shape'
clips = 384  # labelled ones
iters = 100  # steps of 32 clips
start = 'work_dirs/demo/joint_shapes/last.pth'

model = dict(
    type='Recognizer3D',
    backbone=dict(
        type='BimmViT',
        arch=dict(embed_dims=96, depth=6, num_heads=4),
        img_size=32,
        patch_size=8,
        num_frames=8,
        tubelet_size=2,
        stage_ends=(2, 4, 6),
        out_type='avg_featmap',
        init_cfg=start and dict(type='Pretrained', checkpoint=start, prefix='dorsal.backbone.'),
    ),
    cls_head=dict(
        type='BimmClsHead',
        num_classes=dict(motion=16, shape=6, texture=4)[label],
        in_channels=96,
        average_clips='prob',
    ),
    data_preprocessor=dict(
        type='ActionDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        format_shape='NCTHW',
    ),
)

shapes = dict(type='LabeledShapesDataset', label=label, num_frames=8, directions=8)
loader = dict(num_workers=0, collate_fn=dict(type='pseudo_collate'))
train_dataloader = dict(
    loader,
    batch_size=32,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(shapes, length=clips, seed=100),  # other clips than in pretraining
)
val_dataloader = dict(
    loader,
    batch_size=192,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(shapes, length=5 * 384, seed=4),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='AccMetric', metric_list=('top_k_accuracy',))
test_evaluator = val_evaluator

train_cfg = dict(type='IterBasedTrainLoop', max_iters=iters, val_interval=iters)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
# a high rate for all layers: with 1e-3 and 0.75 per layer both learned less
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=3e-3, betas=(0.9, 0.999), weight_decay=0.05),
    clip_grad=dict(max_norm=1.0),
    constructor='LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=30),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=30),
]
custom_hooks = [dict(type='FiniteLossHook')]
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=iters, max_keep_ckpts=1))
log_processor = dict(by_epoch=False)
