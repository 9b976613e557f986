# Your own labelled videos, 15 to 500 of them: finetune_own_vitb.py for few. The first two stages
# (V1 and V2) are frozen, so that few videos cannot undo what pretraining learned; augmentation is
# light, without mixup and cutmix, and the training is long in epochs, since an epoch has few steps.
# Not in the paper. What finetune_own_vitb.py says of its variables holds here, too:
#   --cfg-options data_root=/path/to/videos num_classes=7
_base_ = ['./finetune_own_vitb.py']

model = dict(
    backbone=dict(frozen_stages=2, drop_path_rate=0.0),
    cls_head=dict(label_smooth_eps=0.0),
    data_preprocessor=dict(blending=None),
)
train_dataloader = dict(dataset=dict(pipeline=[*_base_.loading, *_base_.light_augmentation]))

max_epochs = 100
lr = 5e-4
train_cfg = dict(max_epochs=max_epochs)
warm_up = max(max_epochs // 10, 1)
param_scheduler = [
    dict(_base_.param_scheduler[0], end=warm_up),
    dict(_base_.param_scheduler[-1], begin=warm_up),
]
if max_epochs == 1:  # a trial
    param_scheduler = [dict(_base_.param_scheduler[-1], begin=0)]
optim_wrapper = dict(optimizer=dict(lr=lr))
