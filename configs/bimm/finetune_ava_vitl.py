# Finetuning on AVA v2.2, ViT-L (paper: section 4, table 9); see finetune_ava_vitb.py.
_base_ = ['./_base_/finetune_ava.py']

pretrained = 'work_dirs/joint_k400_vitl/epoch_800.pth'
model = dict(
    backbone=dict(
        arch='large',
        stage_ends=(4, 8, 24),
        init_cfg=dict(type='Pretrained', checkpoint=pretrained, prefix='dorsal.backbone.'),
    ),
    roi_head=dict(bbox_head=dict(in_channels=1024)),
)
