# VIMPAC's large model, second stage: the last 10 of 100 epochs on frames of 256x256 pixels, 32x32
# codes, with 6 blocks masked. It resumes the first stage's last checkpoint, its optimizer and its
# schedule; positions and their moments are interpolated (appendix C.1).
_base_ = ['./vimpac_videos_large-half_128.py']

load_from = 'work_dirs/vimpac_videos_large-half_128/epoch_90.pth'
resume = True

model = dict(
    backbone=dict(grid_size=(5, 32, 32)),
    masking=dict(num_blocks=6),
)
train_dataloader = dict(
    batch_size=16,
    dataset=dict(code_cache='{{$VIDEOS:data/videos}}/codes_256'),
)
# 8 GPUs x 16 videos x 8 steps; the contrast is among the 128 of one step
optim_wrapper = dict(accumulative_counts=8)
custom_hooks = [
    dict(type='GradientNormHook', interval=50),
    dict(type='FiniteLossHook'),
    dict(type='ResizeMomentsHook'),
]
