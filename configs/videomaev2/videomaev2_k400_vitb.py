# VideoMAE V2's dual masking (Wang et al., 2023), ViT-B on Kinetics-400: VideoMAE, whose decoder
# gets half of the cubes, running cells of 2x2 patches, and is asked for those that the encoder did
# not see. Four clips of each video that is read, 200 epochs and base lr 1e-3 are its code's for
# ViT-B.
_base_ = ['../videomae/videomae_k400_vitb.py']

model = dict(dorsal=dict(decoder_masking=dict(type='RunningCellMasking', ratio=0.5)))

train_dataloader = dict(batch_size=4, dataset=dict(num_repeats=4))  # videos: 16 clips

train_cfg = dict(max_epochs=200)
param_scheduler = [
    dict(_base_.param_scheduler[0], end=20),
    dict(_base_.param_scheduler[1], begin=20),
]
# base lr x videos per GPU / 16; repeated clips do not count, as in its code
optim_wrapper = dict(optimizer=dict(lr=1e-3 * 4 / 16))
auto_scale_lr = dict(enable=False, base_batch_size=16 * 4)
