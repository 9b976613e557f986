# Pretraining on your own videos, without labels: both branches jointly, with edges found online.
# Everything that is to be changed stands at the top, and is read everywhere below; set it here, or
# on the command line:
#   --cfg-options data_root=/path/to/videos max_epochs=200 batch_size=4
# docs/own_videos.md goes through it. Not in the paper.
_base_ = ['./_base_/joint_vitb.py', '../_base_/pretrain.py', '../_base_/runtime.py']

# The data: all videos below this folder, whatever the folders in it are called.
data_root = '{{$OWN_VIDEOS:data/own}}'

# Clips: num_frames frames, every frame_interval-th, of img_size x img_size pixels.
num_frames = 16
frame_interval = 4
img_size = 224

# The encoders, 'tiny', 'small', 'base', 'large' or a dict of sizes, and the weights that both start
# from: those of MAE, imported, or of a ventral stage of this arch. None: from scratch.
arch = 'base'
start = 'mae_vitb.pth'

# The training: warm-up over a twentieth of it, then a cosine down to 0. lr is for ViT-B from
# weights and one GPU with 8 videos; --auto-scale-lr follows other numbers. What starts from scratch
# needs more: 1e-3 for 'tiny'.
max_epochs = 100
batch_size = 8  # videos per GPU
lr = 7.5e-5

# ------------------------------------------------------------------------------------------------

edges = dict(type='EdgeContourTarget')
sizes = dict(_delete_=True, **arch) if isinstance(arch, dict) else arch
encoder = dict(arch=sizes, img_size=img_size, stage_ends=None)  # the paper's fractions of the depth
model = dict(
    init_dorsal_from=start,
    ventral=dict(
        backbone=encoder, targets=[dict(type='GaborTarget'), edges, dict(type='PixelTarget')]
    ),
    dorsal=dict(
        backbone=dict(encoder, num_frames=num_frames),
        targets=[dict(type='GaborTarget'), edges, dict(type='MotionTarget')],
    ),
)

custom_imports = dict(imports=['bimm_mm', 'bimm_mm.datasets.video'])
train_dataloader = dict(
    batch_size=batch_size,
    pin_memory=True,
    drop_last=False,  # a handful of videos may be less than a batch
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='VideoFolderDataset',
        data_root=data_root,
        pipeline=[
            dict(type='mmaction.DecordInit'),
            dict(
                type='mmaction.SampleFrames',
                clip_len=num_frames,
                frame_interval=frame_interval,
                num_clips=1,
                out_of_bound_opt='repeat_last',
            ),
            dict(type='mmaction.DecordDecode'),
            # the short side to 256 for 224, because MultiScaleCrop fails on one below the crop
            dict(type='mmaction.Resize', scale=(-1, img_size * 8 // 7)),
            dict(
                type='mmaction.MultiScaleCrop',
                input_size=img_size,
                scales=(1, 0.875, 0.75, 0.66),
                num_fixed_crops=13,
            ),
            dict(type='mmaction.Resize', scale=(img_size, img_size), keep_ratio=False),
            dict(type='mmaction.Flip', flip_ratio=0.5),
            dict(type='mmaction.FormatShape', input_format='NCTHW'),
            dict(type='mmaction.PackActionInputs'),
        ],
    ),
)

train_cfg = dict(max_epochs=max_epochs)
warm_up = max(max_epochs // 20, 1)
param_scheduler = [
    dict(_base_.param_scheduler[0], end=warm_up),
    dict(_base_.param_scheduler[1], begin=warm_up),
]
if max_epochs == 1:  # a trial
    param_scheduler = [dict(_base_.param_scheduler[1], begin=0)]
optim_wrapper = dict(optimizer=dict(lr=lr))
auto_scale_lr = dict(enable=False, base_batch_size=8)  # what that lr is for
custom_hooks = [  # a run on a few videos has few steps
    dict(hook, interval=10) if hook['type'] == 'GradientNormHook' else hook
    for hook in _base_.custom_hooks
]
