# Stage 2 of the demo: both branches jointly on generated clips, 8 frames of 32x32 pixels: 64 cubes
# of 2x8x8, of which half are masked.
_base_ = ['./_base_/shapes.py', '../../_base_/runtime.py']

model = dict(
    type='DualBranchPretrainer',
    share='partial',
    dorsal_weight=1.0,
    init_dorsal_from=None,  # the demo puts in its checkpoint of stage 1
    init_dorsal_decoders=True,  # the dorsal decoders, too, which the paper's recipes do not do
    ventral=_base_.ventral,
    dorsal=dict(
        backbone=dict(
            type='BimmViT',
            arch=_base_.arch,
            img_size=32,
            patch_size=8,
            num_frames=8,
            tubelet_size=2,
            stage_ends=(2, 4, 6),
        ),
        masking=dict(type='TubeMasking', ratio=0.5),
        neck=dict(type='MultiStageDecoder', decoders=_base_.decoders),
        targets=[_base_.gabor, _base_.contour, dict(type='MotionTarget', scale=1.0)],
        loss_weights=(1.0, 8.0, 4.0),  # motion is the hardest of the three to predict
    ),
)

train_dataloader = dict(dataset=dict(num_frames=8))

train_cfg = dict(max_iters=1600)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=1000, max_keep_ckpts=1))
log_processor = dict(by_epoch=False)

# The probes are trained and tested on other clips.
probe_train = dict(
    batch_size=192,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(type='MovingShapesDataset', length=5 * 384, seed=2, num_frames=8, directions=8),
)
probe_test = dict(
    batch_size=192,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(type='MovingShapesDataset', length=5 * 384, seed=3, num_frames=8, directions=8),
)
