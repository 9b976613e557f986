# Finetuning on HMDB51, ViT-B (paper: section 4, table 9).
#
# Starts from the dorsal encoder inside a pretraining checkpoint. An encoder that was exported:
#   --cfg-options model.backbone.init_cfg.checkpoint=encoder.pth model.backbone.init_cfg.prefix=None
# From scratch: --cfg-options model.backbone.init_cfg=None
# Pretrained on UCF101 instead (paper: 65.2):
#   --cfg-options model.backbone.init_cfg.checkpoint=work_dirs/joint_ucf101_vitb/epoch_1600.pth
_base_ = ['./_base_/finetune_video.py', '../_base_/runtime.py']

num_classes = 51
data_root = '{{$HMDB51:data/hmdb51}}'

sample = dict(_base_.sample, frame_interval=2)
loading = [_base_.open_video, sample, _base_.decode]

train_dataloader = dict(
    batch_size=32,
    dataset=dict(
        num_classes=num_classes,
        data_root=data_root,
        ann_file='hmdb51_train_split_1_videos.txt',
        data_prefix=dict(video='videos'),
        pipeline=[*loading, *_base_.augmentation],
    ),
)
val_dataloader = dict(
    batch_size=32,
    dataset=dict(
        num_classes=num_classes,
        data_root=data_root,
        ann_file='hmdb51_val_split_1_videos.txt',
        data_prefix=dict(video='videos'),
        pipeline=[
            _base_.open_video,
            dict(sample, num_clips=1, test_mode=True),
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
            dict(sample, num_clips=10, test_mode=True),
            _base_.decode,
            *_base_.three_crops,
            *_base_.packing,
        ],
    )
)

pretrained = 'work_dirs/joint_k400_vitb/epoch_800.pth'
model = dict(
    backbone=dict(
        drop_path_rate=0.2,
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

train_cfg = dict(max_epochs=50)
optim_wrapper = dict(
    # base lr x GPUs x videos per GPU / 256
    optimizer=dict(lr=1e-3 * 8 * 32 / 256),
    paramwise_cfg=dict(layer_decay_rate=0.7),
)
auto_scale_lr = dict(enable=False, base_batch_size=256)  # what that lr is for
default_hooks = dict(checkpoint=dict(max_keep_ckpts=2, save_best='acc/top1'))
