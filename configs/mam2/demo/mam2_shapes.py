# MAM2 at the demo's size: generated clips, 4 frames of 32x32 pixels, 32 cubes of 2x8x8, of which
# half are masked. Codes are those of a codebook of 64 patches of 8x8 pixels, which is made first,
# in seconds; `make mam2` does both. Sizes and schedule are our choice.
#   python tools/dataset_converters/make_codebook.py configs/mam2/demo/mam2_shapes.py \
#       work_dirs/mam2_shapes/codebook.pth --patch-size 8 --num-codes 64
#
# What differs from the recipes, so that it learns in minutes on a CPU (README): masks are random,
# not tubes, and motion weighs 8. Motion is learned last: hardly anything of it is explained before
# 30 % of the codes are predicted right.
_base_ = ['../../bimm/demo/_base_/shapes.py', '../../_base_/runtime.py']

num_codes = 64
decoder = dict(type='LatentDecoder', depth=1, num_heads=4)
model = dict(
    type='MaskedPretrainer',
    backbone=dict(
        type='BimmViT',
        arch=dict(embed_dims=64, depth=3, num_heads=4),
        img_size=32,
        patch_size=8,
        num_frames=4,
        tubelet_size=2,
        stage_ends=(3,),
        with_cls_token=False,
    ),
    masking=dict(type='RandomMasking', ratio=0.5),
    tokenizer=dict(type='PatchTokenizer', checkpoint='work_dirs/mam2_shapes/codebook.pth'),
    neck=dict(
        type='RegressorDecoder',
        embed_dims=64,
        depth=1,
        num_heads=4,
        decoders=[decoder, decoder],
    ),
    targets=[
        dict(type='CodeTarget', num_codes=num_codes),
        dict(type='MotionTarget', absolute=False, scale=1.0),
    ],
    # at first, the gradient of the codes in the encoder is four times that of motion; with a weight
    # of 2, motion sets in 300 steps later
    loss_weights=(1.0, 8.0),
)

train_dataloader = dict(dataset=dict(num_frames=4))

iters, warmup = 3000, 100
train_cfg = dict(max_iters=iters)
# with BIMM's demo's 5e-3, codes are learned half as fast
optim_wrapper = dict(optimizer=dict(lr=2e-3), clip_grad=dict(max_norm=1.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=warmup),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=warmup),
]
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=1000, max_keep_ckpts=1))
log_processor = dict(by_epoch=False)
