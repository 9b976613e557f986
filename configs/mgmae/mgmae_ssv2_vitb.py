# MGMAE, ViT-B on Something-Something V2. The authors report 71.0 after 800 epochs and 72.3 after
# 2400, after finetuning, counted with repetitions: 200 epochs of 4 clips per video are 800. Base
# lr 1e-3 (x videos / 256, repetitions not counted), warm-up of 20 epochs, and batch are those of
# the authors' scripts: 16 GPUs x 24 videos x 4.
_base_ = [
    './_base_/mgmae_vitb.py',
    '../_base_/ssv2.py',
    '../_base_/pretrain.py',
    '../_base_/runtime.py',
]

train_dataloader = dict(batch_size=24, dataset=dict(num_repeats=4))
train_cfg = dict(max_epochs=200)
optim_wrapper = dict(optimizer=dict(lr=1e-3 * 16 * 24 / 256))
param_scheduler = [
    dict(_base_.param_scheduler[0], end=20),
    dict(_base_.param_scheduler[1], begin=20),
]
auto_scale_lr = dict(enable=False, base_batch_size=16 * 24)
