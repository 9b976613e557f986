# AVA v2.2, detection of actions: mmaction2's FastRCNN on a feature map of the dorsal encoder
# (paper: table 9, appendix A). 16 frames, every 4th, around the keyframe. Training: annotated
# boxes, short side 256, random crop 224, flip. Test: boxes of detected people with a score above
# 0.8, one clip of the whole frame with the short side 256.
#
# Left out: label smoothing, mixup and cutmix, which the paper's table lists for AVA as well. Boxes
# with several labels cannot be mixed as clips are. RoI layer, dropout and the loss are mmaction2's
# for its VideoMAE on AVA.
_base_ = ['../../_base_/runtime.py']

custom_imports = dict(imports=['bimm_mm', 'mmaction.models', 'bimm_mm.datasets.ava'])
default_scope = 'mmaction'

model = dict(
    _scope_='mmdet',
    type='FastRCNN',
    backbone=dict(
        type='BimmViT',
        arch='base',
        img_size=224,
        num_frames=16,
        tubelet_size=2,
        stage_ends=(2, 4, 12),
        drop_path_rate=0.2,
        out_type='featmap',  # (B, C, 8, H / 16, W / 16)
    ),
    roi_head=dict(
        type='AVARoIHead',
        bbox_roi_extractor=dict(
            type='SingleRoIExtractor3D',
            roi_layer_type='RoIAlign',
            featmap_stride=16,
            output_size=8,
            with_temporal_pool=True,
        ),
        bbox_head=dict(
            type='BBoxHeadAVA',
            background_class=True,
            in_channels=768,
            num_classes=81,
            multilabel=True,
            dropout_ratio=0.5,
        ),
    ),
    data_preprocessor=dict(
        type='ActionDataPreprocessor',
        _scope_='mmaction',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        format_shape='NCTHW',
    ),
    train_cfg=dict(
        rcnn=dict(
            assigner=dict(
                type='MaxIoUAssignerAVA', pos_iou_thr=0.9, neg_iou_thr=0.9, min_pos_iou=0.9
            ),
            sampler=dict(
                type='RandomSampler',
                num=32,
                pos_fraction=1,
                neg_pos_ub=-1,
                add_gt_as_proposals=True,
            ),
            pos_weight=1.0,
        )
    ),
    test_cfg=dict(rcnn=None),
)

# in the folder AVA of the environment
frames = '{{$AVA:data/ava}}/rawframes'
annotations = '{{$AVA:data/ava}}/annotations'
label_file = f'{annotations}/ava_action_list_v2.2_for_activitynet_2019.pbtxt'
packing = [
    dict(type='FormatShape', input_format='NCTHW', collapse=True),
    dict(type='PackActionInputs'),
]

train_dataloader = dict(
    batch_size=16,  # per GPU
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='AVAKeyframeDataset',
        ann_file=f'{annotations}/ava_train_v2.2.csv',
        exclude_file=f'{annotations}/ava_train_excluded_timestamps_v2.2.csv',
        label_file=label_file,
        data_prefix=dict(img=frames),
        pipeline=[
            dict(type='SampleAVAFrames', clip_len=16, frame_interval=4),
            dict(type='RawFrameDecode'),
            dict(type='Resize', scale=(-1, 256)),
            dict(type='RandomCrop', size=224),
            dict(type='Flip', flip_ratio=0.5),
            dict(type='GroundTruthBoxesOnly'),
            *packing,
        ],
    ),
)
val_dataloader = dict(
    batch_size=1,  # all that the RoI head takes
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='AVAKeyframeDataset',
        ann_file=f'{annotations}/ava_val_v2.2.csv',
        exclude_file=f'{annotations}/ava_val_excluded_timestamps_v2.2.csv',
        label_file=label_file,
        proposal_file=f'{annotations}/ava_dense_proposals_val.FAIR.recall_93.9.pkl',
        person_det_score_thr=0.8,
        data_prefix=dict(img=frames),
        test_mode=True,
        pipeline=[
            dict(type='SampleAVAFrames', clip_len=16, frame_interval=4, test_mode=True),
            dict(type='RawFrameDecode'),
            dict(type='Resize', scale=(-1, 256)),
            *packing,
        ],
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(
    type='AVAMetric',
    ann_file=f'{annotations}/ava_val_v2.2.csv',
    exclude_file=f'{annotations}/ava_val_excluded_timestamps_v2.2.csv',
    label_file=label_file,
)
test_evaluator = val_evaluator

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=30, val_interval=5)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    # base lr x GPUs x samples per GPU / 256, as in the recipes for recognition
    optimizer=dict(
        type='AdamW', lr=2.5e-4 * 8 * 16 / 256, betas=(0.9, 0.999), weight_decay=0.05, fused=True
    ),
    constructor='LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.75),
)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-3,
        by_epoch=True,
        begin=0,
        end=5,
        convert_to_iter_based=True,
    ),
    dict(  # down to 0 at the end of the run, whatever max_epochs is
        type='CosineAnnealingLR',
        eta_min=0.0,
        by_epoch=True,
        begin=5,
        convert_to_iter_based=True,
    ),
]
auto_scale_lr = dict(enable=False, base_batch_size=128)  # what that lr is for

default_hooks = dict(checkpoint=dict(interval=5, max_keep_ckpts=2, save_best='mAP/overall'))
custom_hooks = [dict(type='FiniteLossHook')]
