# Linear probe on Kinetics-400, ViT-B: batch norm and a linear layer on the mean token of
# the frozen dorsal encoder. Not in the paper; the schedule is MAE's, cut to 50 epochs.
_base_ = ['./finetune_k400_vitb.py']

model = dict(
    backbone=dict(frozen_stages=3, drop_path_rate=0.0, out_type='avg_featmap'),
    cls_head=dict(batch_norm=True, label_smooth_eps=0.0),
    data_preprocessor=dict(blending=None),
)
train_dataloader = dict(
    dataset=dict(num_repeats=1, pipeline=[*_base_.loading, *_base_.light_augmentation])
)

train_cfg = dict(max_epochs=50)
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    # 0.1 x GPUs x videos per GPU / 256
    optimizer=dict(type='SGD', lr=0.1 * 8 * 16 / 256, momentum=0.9, weight_decay=0.0),
)
