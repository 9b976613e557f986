# What both stages of the demo have in common: generated clips, 32x32 pixels. Everything is small,
# so that two CPU cores learn something in minutes: 16 tokens of 8x8 pixels, of which half are
# masked; width 96, and 6 blocks with the paper's stages V1 and V2, two blocks each. Sizes, schedule
# and loss weights are our choice. Stages add runtime.py.
custom_imports = dict(imports=['bimm_mm'], allow_failed_imports=False)
default_scope = 'mmengine'

arch = dict(embed_dims=96, depth=6, num_heads=4)
decoders = [
    # of visible patches, where the paper has masked ones: better in every figure on these clips,
    # on harder ones for texture and shape alone (docs/evidence.md)
    dict(type='LinearDecoder', embed_dims=64, predict='visible'),
    dict(type='TransformerDecoder', embed_dims=64, depth=1, num_heads=4),
    dict(type='TransformerDecoder', embed_dims=64, depth=2, num_heads=4),
]
# the texture's period is 8 pixels
gabor = dict(type='GaborTarget', wavelengths=(4, 8), orientations=4, scale=20.0)
# outlines, but not the weaker edges of the texture
contour = dict(type='EdgeContourTarget', low=0.28, high=0.38)

ventral = dict(
    backbone=dict(type='BimmViT', arch=arch, img_size=32, patch_size=8, stage_ends=(2, 4, 6)),
    masking=dict(type='RandomMasking', ratio=0.5),
    neck=dict(type='MultiStageDecoder', decoders=decoders),
    targets=[gabor, contour, dict(type='PixelTarget')],
    loss_weights=(1.0, 8.0, 1.0),  # contours are few: their variance is a tenth of the others'
)

train_dataloader = dict(
    batch_size=32,
    num_workers=0,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='MovingShapesDataset', length=10 * 384, seed=1, num_frames=None, directions=8
    ),
)

train_cfg = dict(type='IterBasedTrainLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=5e-3, betas=(0.9, 0.95), weight_decay=0.05, fused=True),
    clip_grad=dict(max_norm=0.3),  # without it, this learning rate ends in a collapse
    constructor='LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=300),
    # down to 0 at the end of the run, whatever max_iters is
    dict(type='CosineAnnealingLR', by_epoch=False, begin=300),
]
# the hooks of pretraining
custom_hooks = [
    dict(type='GradientNormHook', interval=50),
    dict(type='FiniteLossHook'),
    dict(type='ExplainedVarianceHook', after_iters=5000),
]
