# VIMPAC's large model, first of two stages: 24 blocks of 1024 with half of the attention's and the
# MLP's width, 5 frames of 128x128 pixels, 90 of 100 epochs. The second stage is
# vimpac_videos_large-half_256.py. The paper pretrains on HowTo100M: 120,000 updates in all, about
# 8,900 V100-hours. It reports, after finetuning, SSv2 68.1, Diving48 85.5, UCF101 92.7, HMDB51
# 65.9, K400 75.3 (table 1). Not reproduced here.
_base_ = ['./_base_/pretrain.py', '../_base_/runtime.py']

model = dict(
    type='VIMPAC',
    backbone=dict(type='VimpacViT', arch='large_half', grid_size=(5, 16, 16)),
    masking=dict(type='VimpacMasking', num_blocks=5),
    projector=dict(hidden_dims=4096, num_layers=3),
)

train_dataloader = dict(batch_size=32)
# 1024 videos per update: 8 GPUs x 32 videos x 4 steps; the contrast is among the 256 of one step
optim_wrapper = dict(optimizer=dict(lr=3e-4), accumulative_counts=4)
# the schedule is that of both stages
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=100)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=5, convert_to_iter_based=True),
    dict(type='LinearLR', start_factor=1.0, end_factor=0.0, begin=5, end=100,
         convert_to_iter_based=True),
]  # fmt: skip
custom_hooks = [*_base_.custom_hooks, dict(type='EndStageHook', epochs=90)]
