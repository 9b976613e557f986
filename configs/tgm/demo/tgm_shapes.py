# TGM at the demo's size: generated clips with true captions, 8 frames of 32x32 pixels, 64 cubes
# of 2x8x8, of which the caption hides 9 of 16 in each slot. The frozen CLIP is a small one, made
# of the same clips first, in minutes; `make tgm` does all of it. Sizes and schedule are our
# choice.
#   python tools/dataset_converters/make_small_clip.py configs/tgm/demo/tgm_shapes.py \
#       work_dirs/tgm_shapes/clip --patch-size 8
#   python tools/train.py configs/tgm/demo/tgm_shapes.py --work-dir work_dirs/tgm_shapes
#   python tools/benchmarks/retrieval.py configs/tgm/demo/tgm_shapes.py \
#       work_dirs/tgm_shapes/iter_800.pth
_base_ = ['../../bimm/demo/_base_/shapes.py', '../../_base_/runtime.py']

clip = 'work_dirs/tgm_shapes/clip'
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
    # the map of so small a CLIP is inverted, as those of published ones often are: patches around
    # the object are more like the caption than its own. 'bottom' hides the object. All of what the
    # caption speaks of, if nothing is soft: then the contrast has nothing to learn from
    masking=dict(
        type='TextGuidedMasking',
        ratio=0.6,
        order='bottom',
        softness=0.3,
        guide=dict(type='ClipGuide', checkpoint=clip),
    ),
    neck=dict(
        type='MultiStageDecoder',
        decoders=[
            dict(type='TransformerDecoder', embed_dims=64, depth=2, num_heads=4, mlp_head=False),
        ],
    ),
    targets=[dict(type='PixelTarget')],
    objectives=[
        dict(
            type='VideoTextContrast',
            embed_dims=96,
            text=dict(type='ClipTextEncoder', checkpoint=clip),
            text_dims=64,
        ),
    ],
)

train_dataloader = dict(dataset=dict(num_frames=8, captions=True))

train_cfg = dict(max_iters=800)
optim_wrapper = dict(optimizer=dict(lr=3e-3))
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=800, max_keep_ckpts=1))
log_processor = dict(by_epoch=False)

# other clips, for tools/benchmarks/retrieval.py: each of 384 captions twice
retrieval_dataloader = dict(
    batch_size=96,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='MovingShapesDataset',
        length=2 * 384,
        seed=3,
        num_frames=8,
        directions=8,
        captions=True,
    ),
)
