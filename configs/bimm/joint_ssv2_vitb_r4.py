# joint_ssv2_vitb.py with several clips of each video that is read (repeated sampling, as in
# MAE-ST): a video is opened and decoded once for all of them, so that the loader keeps up with a
# GPU on fewer cores (docs/speed_input.md). The clips of a batch then come from fewer videos; what
# that does to the result was not tried here.
_base_ = ['./joint_ssv2_vitb.py']

# Clips of a video, R, each with frames and a crop of its own: 1, 2, 4 or 8. All else follows from
# it: a batch still has 16 clips per GPU, of 16 / R videos; 800 epochs of clips are 800 / R
# passes over the videos, 40 / R of them warm-up (R = 4: 200 and 10). Iterations, clips and learning
# rate are those of R = 1. --auto-scale-lr counts videos.
num_repeats = 4

train_dataloader = dict(batch_size=16 // num_repeats, dataset=dict(num_repeats=num_repeats))
train_cfg = dict(max_epochs=800 // num_repeats)
param_scheduler = [
    dict(_base_.param_scheduler[0], end=40 // num_repeats),
    dict(_base_.param_scheduler[1], begin=40 // num_repeats),
]
auto_scale_lr = dict(base_batch_size=16 * 16 // num_repeats)
default_hooks = dict(checkpoint=dict(interval=max(1, 5 // num_repeats)))
