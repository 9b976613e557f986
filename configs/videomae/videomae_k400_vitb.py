# VideoMAE, ViT-B on Kinetics-400. Data and schedule are those of
# bimm/joint_k400_vitb.py, so that the
# two differ in the method only. VideoMAE's own recipe: base lr 1.5e-4 at / 256, batch 1024.
_base_ = [
    './_base_/videomae_vitb.py',
    '../_base_/k400.py',
    '../_base_/pretrain.py',
    '../_base_/runtime.py',
]

# base lr x batch per GPU / 16 = 1.5e-4
optim_wrapper = dict(optimizer=dict(lr=1.5e-4 * 16 / 16))
auto_scale_lr = dict(enable=False, base_batch_size=16 * 16)
