# Finetuning on Kinetics-400, ViT-L (paper: section 4, table 9).
#
# Starts from the dorsal encoder inside a pretraining checkpoint. An encoder that was exported:
#   --cfg-options model.backbone.init_cfg.checkpoint=encoder.pth model.backbone.init_cfg.prefix=None
# From scratch: --cfg-options model.backbone.init_cfg=None
_base_ = ['./finetune_k400_vitb.py']

pretrained = 'work_dirs/joint_k400_vitl/epoch_800.pth'
model = dict(
    backbone=dict(
        arch='large',
        stage_ends=(4, 8, 24),
        drop_path_rate=0.2,
        init_cfg=dict(checkpoint=pretrained),
    ),
    cls_head=dict(in_channels=1024),
)

train_cfg = dict(max_epochs=50)
