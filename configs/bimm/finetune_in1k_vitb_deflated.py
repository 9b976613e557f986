# Finetuning on ImageNet-1K from the dorsal encoder (paper: 85.2 after joint pretraining by section
# 4.2; the caption of table 9 says that it is the ventral encoder's). Its patch embedding is
# deflated, summed over the frames of a tubelet: an image then has the tokens of a static clip of
# one tubelet, at the cost of an image (our choice). All else is the recipe of the ventral encoder.
_base_ = ['./finetune_in1k_vitb.py']

pretrained = 'work_dirs/joint_k400_vitb/epoch_800.pth'
model = dict(
    backbone=dict(deflate=True, init_cfg=dict(checkpoint=pretrained, prefix='dorsal.backbone.'))
)
