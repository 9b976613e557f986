# In the manner of MGM, ViT-B on Something-Something V2, 800 epochs, with VideoMAE's schedule (our
# choice). The videos must be of a codec that exports motion vectors, as H.264; others follow the
# differences between frames. Each video is decoded a second time for them.
_base_ = [
    './_base_/mgm_vitb.py',
    '../_base_/ssv2.py',
    '../_base_/pretrain.py',
    '../_base_/runtime.py',
]

train_dataloader = dict(dataset=dict(with_motion_vectors=True))
# base lr x batch per GPU / 16 = 1.5e-4
optim_wrapper = dict(optimizer=dict(lr=1.5e-4 * 16 / 16))
auto_scale_lr = dict(enable=False, base_batch_size=16 * 16)
