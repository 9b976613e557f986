# Finetuning on Kinetics-400, ViT-B (paper: section 4, table 9).
#
# Starts from the dorsal encoder inside a pretraining checkpoint. An encoder that was exported:
#   --cfg-options model.backbone.init_cfg.checkpoint=encoder.pth model.backbone.init_cfg.prefix=None
# From scratch: --cfg-options model.backbone.init_cfg=None
_base_ = ['./_base_/finetune_video.py', '../_base_/runtime.py']

num_classes = 400
data_root = '{{$KINETICS400:data/kinetics400}}'

train_dataloader = dict(
    dataset=dict(
        num_classes=num_classes,
        data_root=data_root,
        ann_file='kinetics400_train_list_videos.txt',
        data_prefix=dict(video='videos_train'),
    ),
)
val_dataloader = dict(
    dataset=dict(
        num_classes=num_classes,
        data_root=data_root,
        ann_file='kinetics400_val_list_videos.txt',
        data_prefix=dict(video='videos_val'),
    ),
)
test_dataloader = dict(dataset=val_dataloader['dataset'])

pretrained = 'work_dirs/joint_k400_vitb/epoch_800.pth'
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

train_cfg = dict(max_epochs=75)
optim_wrapper = dict(
    # base lr x GPUs x videos per GPU / 256
    optimizer=dict(lr=1e-3 * 8 * 16 / 256),
    paramwise_cfg=dict(layer_decay_rate=0.75),
)
auto_scale_lr = dict(enable=False, base_batch_size=128)  # what that lr is for
default_hooks = dict(checkpoint=dict(max_keep_ckpts=2, save_best='acc/top1'))
