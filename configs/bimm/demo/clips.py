# Both branches on a handful of real videos, to see that the reconstructions come right: 8 frames of
# 64x64 pixels, 256 cubes of 2x8x8, of which half are masked; width 128, 6 blocks. The first 64
# frames of each video are decoded once and held in memory, and learned by heart. No ventral stage
# before. The scales of the targets give each a variance of about 1 here. Sizes and schedule are our
# choice.
_base_ = ['../../_base_/runtime.py']

custom_imports = dict(
    imports=['bimm_mm', 'bimm_mm.datasets.decoded_clips'], allow_failed_imports=False
)
default_scope = 'mmengine'

arch = dict(embed_dims=128, depth=6, num_heads=4)
decoders = [
    # of visible patches, where the paper has masked ones, as in the demo (docs/evidence.md)
    dict(type='LinearDecoder', embed_dims=96, predict='visible'),
    dict(type='TransformerDecoder', embed_dims=96, depth=1, num_heads=4),
    dict(type='TransformerDecoder', embed_dims=96, depth=2, num_heads=4),
]
gabor = dict(type='GaborTarget', wavelengths=(4, 8), orientations=8, scale=45.0)
contour = dict(type='EdgeContourTarget')

model = dict(
    type='DualBranchPretrainer',
    share='partial',
    dorsal_weight=1.0,
    init_dorsal_from=None,  # no ventral stage before
    ventral=dict(
        backbone=dict(type='BimmViT', arch=arch, img_size=64, patch_size=8, stage_ends=(2, 4, 6)),
        masking=dict(type='RandomMasking', ratio=0.5),
        neck=dict(type='MultiStageDecoder', decoders=decoders),
        targets=[gabor, contour, dict(type='PixelTarget')],
        loss_weights=(1.0, 8.0, 1.0),
    ),
    dorsal=dict(
        backbone=dict(
            type='BimmViT',
            arch=arch,
            img_size=64,
            patch_size=8,
            num_frames=8,
            tubelet_size=2,
            stage_ends=(2, 4, 6),
        ),
        masking=dict(type='TubeMasking', ratio=0.5),
        neck=dict(type='MultiStageDecoder', decoders=decoders),
        targets=[gabor, contour, dict(type='MotionTarget', scale=2.5)],
        loss_weights=(1.0, 8.0, 1.0),
    ),
)

train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='DecodedClipsDataset',
        data_root='data/clips',
        length=1600,
        size=64,
        short_side=64,
        max_frames=64,
    ),
)

train_cfg = dict(type='IterBasedTrainLoop', max_iters=1800)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=3e-3, betas=(0.9, 0.95), weight_decay=0.05, fused=True),
    clip_grad=dict(max_norm=0.3),
    constructor='LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=200),
    # down to 0 at the end of the run, whatever max_iters is
    dict(type='CosineAnnealingLR', by_epoch=False, begin=200),
]
custom_hooks = [
    dict(type='GradientNormHook', interval=50),
    dict(type='FiniteLossHook'),
    dict(type='ReconstructionHook', interval=600),
]
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=600, max_keep_ckpts=1))
log_processor = dict(by_epoch=False)
