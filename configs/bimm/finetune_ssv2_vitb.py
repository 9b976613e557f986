# Finetuning on Something-Something V2, ViT-B (paper: section 4, table 9).
#
# Starts from the dorsal encoder inside a pretraining checkpoint. An encoder that was exported:
#   --cfg-options model.backbone.init_cfg.checkpoint=encoder.pth model.backbone.init_cfg.prefix=None
# From scratch: --cfg-options model.backbone.init_cfg=None
_base_ = ['./_base_/finetune_video.py', '../_base_/runtime.py']

num_classes = 174
data_root = '{{$SSV2:data/sthv2}}'

uniform = dict(type='UniformSample', clip_len=16)
loading = [_base_.open_video, uniform, _base_.decode]
light_augmentation = [*_base_.random_crop, *_base_.packing]  # for probes

train_dataloader = dict(
    dataset=dict(
        num_classes=num_classes,
        data_root=data_root,
        ann_file='sthv2_train_list_videos.txt',
        data_prefix=dict(video='videos'),
        pipeline=[
            *loading,
            *_base_.rand_augment,
            *_base_.random_crop,
            *_base_.random_erasing,
            *_base_.packing,
        ],
    ),
)
val_dataloader = dict(
    dataset=dict(
        num_classes=num_classes,
        data_root=data_root,
        ann_file='sthv2_val_list_videos.txt',
        data_prefix=dict(video='videos'),
        pipeline=[
            _base_.open_video,
            dict(uniform, num_clips=1, test_mode=True),
            _base_.decode,
            *_base_.center_crop,
            *_base_.packing,
        ],
    ),
)
test_dataloader = dict(
    dataset=dict(
        val_dataloader['dataset'],
        pipeline=[
            _base_.open_video,
            dict(uniform, num_clips=2, test_mode=True),
            _base_.decode,
            *_base_.three_crops,
            *_base_.packing,
        ],
    )
)

pretrained = 'work_dirs/joint_ssv2_vitb/epoch_800.pth'
model = dict(
    backbone=dict(
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint=pretrained, prefix='dorsal.backbone.'),
    ),
    cls_head=dict(num_classes=num_classes),
    data_preprocessor=dict(
        blending=dict(
            augments=[
                dict(augment, num_classes=num_classes)
                for augment in _base_.model.data_preprocessor.blending.augments
            ]
        )
    ),
)

train_cfg = dict(max_epochs=40)
optim_wrapper = dict(
    # base lr x GPUs x videos per GPU / 256
    optimizer=dict(lr=5e-4 * 8 * 16 / 256),
    paramwise_cfg=dict(layer_decay_rate=0.75),
)
auto_scale_lr = dict(enable=False, base_batch_size=128)  # what that lr is for
default_hooks = dict(checkpoint=dict(max_keep_ckpts=2, save_best='acc/top1'))
