# Table 7, ventral branch: the VideoMAE baseline, from scratch.
_base_ = [
    '../_base_/videomae_vitb.py',
    '../_base_/ucf101.py',
    '../_base_/schedule.py',
    '../_base_/runtime_video.py',
]

# base lr x GPUs x batch per GPU / 256 = 6e-4, as joint_ucf101_vitb.py
optim_wrapper = dict(optimizer=dict(lr=3e-4 * 8 * 64 / 256))
auto_scale_lr = dict(enable=False, base_batch_size=512)  # what that lr is for
