# VideoMAE, ViT-B on UCF101, from scratch: the baseline of BIMM's table 7. Its figure there is that
# of 1600 epochs (paper: section 4.3), where the other rows have 800. Data and schedule are those of
# bimm/joint_ucf101_vitb.py, so that the two differ in the method only.
_base_ = [
    './_base_/videomae_vitb.py',
    '../_base_/ucf101.py',
    '../_base_/pretrain.py',
    '../_base_/runtime.py',
]

# base lr x batch per GPU / 16 = 1.2e-3
optim_wrapper = dict(optimizer=dict(lr=3e-4 * 64 / 16))
auto_scale_lr = dict(enable=False, base_batch_size=16 * 64)

train_cfg = dict(max_epochs=1600)
