# Table 7, ventral branch: the VideoMAE baseline, from scratch. Its figure is that of 1600
# epochs (paper: section 4.3), where the other rows have 800.
_base_ = [
    '../_base_/videomae_vitb.py',
    '../_base_/ucf101.py',
    '../_base_/schedule_1600e.py',
    '../_base_/runtime_video.py',
]

# base lr x batch per GPU / 16 = 1.2e-3, as joint_ucf101_vitb.py
optim_wrapper = dict(optimizer=dict(lr=3e-4 * 64 / 16))
auto_scale_lr = dict(enable=False, base_batch_size=16 * 64)
