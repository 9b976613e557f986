# UperNet on ADE20K, ViT-B (paper: section 4, appendix A): AdamW, lr 4e-4, weight decay 0.05, batch
# 16, bilinear interpolation of the position embedding. Our choices, as the paper is silent: the
# blocks 4, 6, 8 and 12, brought to the strides 4, 8, 16 and 32 by mmseg's Feature2Pyramid, the
# auxiliary head, drop path 0.1 and layer decay 0.65, all as mmseg has it for MAE.
#
# Starts from the ventral encoder of a joint checkpoint. From that of stage 1 alone:
#   --cfg-options model.backbone.init_cfg.checkpoint=work_dirs/ventral_in1k_vitb/epoch_800.pth
# An exported encoder:
#   --cfg-options model.backbone.init_cfg.checkpoint=encoder.pth model.backbone.init_cfg.prefix=None
# From scratch: --cfg-options model.backbone.init_cfg=None
_base_ = ['./_base_/ade20k.py']

norm = dict(
    type='SyncBN', requires_grad=True
)  # BatchNorm over all GPUs; without a launcher, over one
num_classes = 150
pretrained = 'work_dirs/joint_k400_vitb/epoch_800.pth'
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=_base_.size,
        test_cfg=dict(size_divisor=32),  # whole positions at every stride; cut off from the result
    ),
    backbone=dict(
        type='BimmViT',
        arch='base',
        img_size=512,
        stage_ends=(2, 4, 12),
        drop_path_rate=0.1,
        out_type='featmap',
        out_indices=(3, 5, 7, 11),
        pos_interpolation='bilinear',
        init_cfg=dict(type='Pretrained', checkpoint=pretrained, prefix='ventral.backbone.'),
    ),
    neck=dict(type='Feature2Pyramid', embed_dim=768, rescales=[4, 2, 1, 0.5], norm_cfg=norm),
    decode_head=dict(
        type='UPerHead',
        in_channels=[768, 768, 768, 768],
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=768,
        dropout_ratio=0.1,
        num_classes=num_classes,
        norm_cfg=norm,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss'),
    ),
    auxiliary_head=dict(
        type='FCNHead',
        in_channels=768,
        in_index=2,
        channels=256,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=num_classes,
        norm_cfg=norm,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', loss_weight=0.4),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='slide', crop_size=_base_.size, stride=(341, 341)),
)

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=4e-4, betas=(0.9, 0.999), weight_decay=0.05, fused=True),
    constructor='LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.65),
)
auto_scale_lr = dict(enable=False, base_batch_size=16)  # what that lr is for
