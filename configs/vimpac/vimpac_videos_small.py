# VIMPAC's analysis model: 6 blocks of 512, 5 frames of 128x128 pixels (16x16 codes), 10 epochs.
# The paper pretrains on HowTo100M, 1.24 million videos: 12,000 updates, about 160 V100-hours. It
# reports, after finetuning, SSv2 41.1, Diving48 37.5, UCF101 69.4, HMDB51 37.8, K400 54.5
# (table 7). Not reproduced here.
_base_ = ['./_base_/pretrain.py', '../_base_/runtime.py']

model = dict(
    type='VIMPAC',
    backbone=dict(type='VimpacViT', arch='small', grid_size=(5, 16, 16)),
    masking=dict(type='VimpacMasking', num_blocks=5),
    projector=dict(hidden_dims=2048, num_layers=2),
)

# 1024 videos per update: 8 GPUs x 16 videos x 8 steps; the contrast is among the 128 of one step
optim_wrapper = dict(optimizer=dict(lr=1e-3), accumulative_counts=8)
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=10)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=1, convert_to_iter_based=True),
    dict(type='LinearLR', start_factor=1.0, end_factor=0.0, begin=1, end=10,
         convert_to_iter_based=True),
]  # fmt: skip
default_hooks = dict(checkpoint=dict(interval=1))
