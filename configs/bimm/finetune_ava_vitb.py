# Finetuning on AVA v2.2, ViT-B (paper: section 4, table 9).
#
# Starts from the dorsal encoder that was pretrained on Kinetics-400. One that was finetuned there:
#   --cfg-options model.backbone.init_cfg.checkpoint=work_dirs/finetune_k400_vitb/epoch_75.pth
#                 model.backbone.init_cfg.prefix=backbone.
_base_ = ['./_base_/finetune_ava.py']

pretrained = 'work_dirs/joint_k400_vitb/epoch_800.pth'
model = dict(
    backbone=dict(
        init_cfg=dict(type='Pretrained', checkpoint=pretrained, prefix='dorsal.backbone.'),
    ),
)
