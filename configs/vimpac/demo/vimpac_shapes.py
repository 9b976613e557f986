# VIMPAC on generated clips, from a clone: 5 of 12 frames of 32x32 pixels, 8x8 codes a frame of a
# codebook of 64 patches of 4x4 pixels. The codebook is made first, in seconds:
#   python tools/dataset_converters/make_codebook.py configs/vimpac/demo/vimpac_shapes.py \
#       work_dirs/codebook_shapes.pth --patch-size 4 --num-codes 64
# Sizes and schedule are our choice.
_base_ = ['../../_base_/runtime.py']

custom_imports = dict(imports=['bimm_mm'])
default_scope = 'mmengine'

num_codes = 64
model = dict(
    type='VIMPAC',
    backbone=dict(
        type='VimpacViT',
        arch=dict(embed_dims=64, depth=3, num_heads=4),
        grid_size=(5, 8, 8),
        num_codes=num_codes,
        tokenizer=dict(
            type='PatchTokenizer',
            checkpoint='work_dirs/codebook_shapes.pth',
            num_codes=num_codes,
            factor=4,
        ),
    ),
    masking=dict(type='VimpacMasking', num_blocks=5),
    projector=dict(hidden_dims=256, out_dims=64),
)

train_dataloader = dict(
    batch_size=16,  # videos; two clips each
    num_workers=0,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='ClipViewsDataset',
        num_frames=5,
        num_clips=2,
        # without it, an encoder with random weights finds the other clip of a video in 84 % of the
        # cases, by its colors (README)
        color_jitter=0.2,
        dataset=dict(
            type='MovingShapesDataset', length=10 * 384, seed=1, num_frames=12, directions=8
        ),
    ),
)

iters = 600
warmup = 60
train_cfg = dict(type='IterBasedTrainLoop', max_iters=iters)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, betas=(0.9, 0.98), weight_decay=0.05, fused=True),
    clip_grad=dict(max_norm=1.0),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=warmup),
    dict(
        type='LinearLR', start_factor=1.0, end_factor=0.0, by_epoch=False, begin=warmup, end=iters
    ),
]
custom_hooks = [dict(type='GradientNormHook', interval=50), dict(type='FiniteLossHook')]
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=100, max_keep_ckpts=1))
log_processor = dict(by_epoch=False)
