# Linear probe on ImageNet-1K, ViT-B: batch norm and a linear layer on the mean token of the frozen
# ventral encoder. Not in the paper; augmentation and schedule are MAE's.
_base_ = ['./finetune_in1k_vitb.py']

model = dict(
    backbone=dict(frozen_stages=3, drop_path_rate=0.0, out_type='avg_featmap'),
    neck=dict(type='ClsBatchNormNeck', input_features=768),
    head=dict(
        loss=dict(_delete_=True, type='CrossEntropyLoss'),
        init_cfg=dict(std=0.01),
    ),
    train_cfg=None,
)
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='LoadImageFromFile'),
            _base_.random_crop,
            dict(type='RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='PackInputs'),
        ]
    )
)

train_cfg = dict(max_epochs=90)
param_scheduler = [
    dict(_base_.param_scheduler[0], end=10),
    dict(_base_.param_scheduler[1], begin=10),
]
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    # 0.1 x GPUs x images per GPU / 256
    optimizer=dict(type='SGD', lr=0.1 * 8 * 128 / 256, momentum=0.9, weight_decay=0.0),
)
