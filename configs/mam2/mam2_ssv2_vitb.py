# MAM2, ViT-B on Something-Something V2, 400 epochs. Data are those of bimm/joint_ssv2_vitb.py.
_base_ = [
    './_base_/mam2_vitb.py',
    '../_base_/ssv2.py',
    '../_base_/pretrain.py',
    '../_base_/runtime.py',
]

train_cfg = dict(max_epochs=400)
# base lr x batch per GPU / 16 = 1.5e-4
optim_wrapper = dict(optimizer=dict(lr=1.5e-4 * 16 / 16))
auto_scale_lr = dict(enable=False, base_batch_size=16 * 16)

# one frame more than the encoder sees, for the last difference
pipeline = _base_.train_dataloader.dataset.pipeline
pipeline[1].clip_len = 17
train_dataloader = dict(dataset=dict(pipeline=pipeline))
