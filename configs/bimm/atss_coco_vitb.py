# A one-stage detector on COCO, ViT-B: ATSS, boxes only. Not in the paper. Head and losses are
# mmdet's for ATSS; the pyramid has the five strides that it expects.
_base_ = ['./_base_/coco.py', '../_base_/runtime.py']

strides = [8, 16, 32, 64, 128]
model = dict(
    type='ATSS',
    data_preprocessor=dict(pad_mask=False),
    neck=dict(strides=strides, extra_levels=0),
    bbox_head=dict(
        type='ATSSHead',
        num_classes=80,
        in_channels=256,
        stacked_convs=4,
        feat_channels=256,
        anchor_generator=dict(
            type='AnchorGenerator',
            ratios=[1.0],
            octave_base_scale=8,
            scales_per_octave=1,
            strides=strides,
        ),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_stds=[0.1, 0.1, 0.2, 0.2]),
        loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25),
        loss_bbox=dict(type='GIoULoss', loss_weight=2.0),
        loss_centerness=dict(type='CrossEntropyLoss', use_sigmoid=True),
    ),
    train_cfg=dict(assigner=dict(type='ATSSAssigner', topk=9), allowed_border=-1, pos_weight=-1),
    test_cfg=dict(
        nms_pre=1000,
        min_bbox_size=0,
        score_thr=0.05,
        nms=dict(type='nms', iou_threshold=0.6),
        max_per_img=100,
    ),
)

train_dataloader = dict(
    dataset=dict(pipeline=[_base_.load_image, _base_.load_boxes, *_base_.jitter])
)
val_evaluator = dict(metric='bbox')
test_evaluator = val_evaluator

default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=2, save_best='coco/bbox_mAP'))
visualizer = dict(type='DetLocalVisualizer')
