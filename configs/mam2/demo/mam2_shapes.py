# MAM2 at the demo's size: generated clips, 8 frames of 32x32 pixels, 64 cubes of 2x8x8, of which
# half are masked. Codes are those of a codebook of 64 patches of 8x8 pixels, which is made first,
# in seconds; `make mam2` does both. Sizes and schedule are our choice.
#   python tools/dataset_converters/make_codebook.py configs/mam2/demo/mam2_shapes.py \
#       work_dirs/mam2_shapes/codebook.pth --patch-size 8 --num-codes 64
_base_ = ['../../bimm/demo/_base_/shapes.py', '../../_base_/runtime.py']

num_codes = 64
decoder = dict(type='LatentDecoder', depth=2, num_heads=4)
model = dict(
    type='MaskedPretrainer',
    backbone=dict(
        type='BimmViT',
        arch=_base_.arch,
        img_size=32,
        patch_size=8,
        num_frames=8,
        tubelet_size=2,
        stage_ends=(6,),
        with_cls_token=False,
    ),
    masking=dict(type='TubeMasking', ratio=0.5),
    tokenizer=dict(type='PatchTokenizer', checkpoint='work_dirs/mam2_shapes/codebook.pth'),
    neck=dict(
        type='RegressorDecoder',
        embed_dims=64,
        depth=2,
        num_heads=4,
        decoders=[decoder, decoder],
    ),
    targets=[
        dict(type='CodeTarget', num_codes=num_codes),
        dict(type='MotionTarget', absolute=False, scale=1.0),
    ],
)

train_dataloader = dict(dataset=dict(num_frames=8))

train_cfg = dict(max_iters=1600)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=1600, max_keep_ckpts=1))
log_processor = dict(by_epoch=False)
