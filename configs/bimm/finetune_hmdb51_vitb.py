# Finetuning on HMDB51, ViT-B (paper: section 4, table 9).
#
# Starts from the dorsal encoder inside a pretraining checkpoint. An encoder that was exported:
#   --cfg-options model.backbone.init_cfg.checkpoint=encoder.pth model.backbone.init_cfg.prefix=None
# From scratch: --cfg-options model.backbone.init_cfg=None
# Pretrained on UCF101 instead (paper: 65.2):
#   --cfg-options model.backbone.init_cfg.checkpoint=work_dirs/joint_ucf101_vitb/epoch_1600.pth
_base_ = ['./_base_/finetune_hmdb51.py']

pretrained = 'work_dirs/joint_k400_vitb/epoch_800.pth'
model = dict(
    backbone=dict(
        drop_path_rate=0.2,
        init_cfg=dict(type='Pretrained', checkpoint=pretrained, prefix='dorsal.backbone.'),
    ),
)

max_epochs = 50
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [_base_.param_scheduler[0], dict(_base_.param_scheduler[1], end=max_epochs)]
optim_wrapper = dict(
    # base lr x GPUs x videos per GPU / 256
    optimizer=dict(lr=1e-3 * 8 * 32 / 256),
    paramwise_cfg=dict(layer_decay_rate=0.7),
)
auto_scale_lr = dict(enable=False, base_batch_size=256)  # what that lr is for
