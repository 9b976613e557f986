# Your own labelled videos: a folder for each class, or lists. Everything that is to be changed
# stands at the top, and is read everywhere below; set it here, or on the command line:
#   --cfg-options data_root=/path/to/videos num_classes=7 max_epochs=30
# docs/own_videos.md goes through it, from the folder to predictions. Not in the paper.
_base_ = ['./_base_/finetune_video.py', '../_base_/runtime.py']

# The data: <data_root>/<class>/*.mp4, of which a fifth is for validation, drawn from seed. Or,
# split by hand, <data_root>/train/<class>/*.mp4 and <data_root>/val/<class>/*.mp4. Or lists,
# relative to data_root, with a line `path label` per video; of a single list, a fifth is for
# validation.
data_root = '{{$OWN_VIDEOS:data/own}}'
num_classes = 5
train_list, val_list = '', ''
val_share, seed = 0.2, 0

# Clips: num_frames frames, every frame_interval-th, of img_size x img_size pixels.
num_frames = 16
frame_interval = 4
img_size = 224
flip_ratio = 0.5  # probability; 0 where left and right are in the labels

# The encoder, 'tiny', 'small', 'base', 'large' or a dict of sizes, and the weights that it starts
# from: the dorsal branch of a pretraining checkpoint. None: from scratch. VideoMAE's weights,
# imported, have no class token: with_cls_token=False.
arch = 'base'
start, prefix = 'work_dirs/joint_own_vitb_edge/epoch_100.pth', 'dorsal.backbone.'
with_cls_token = True

# The training: warm-up over a tenth of it, then a cosine down to 0. lr is for one GPU with this
# batch; --auto-scale-lr follows others.
max_epochs = 50
batch_size = 8  # videos per GPU; each gives two clips
lr = 2.5e-4

# ------------------------------------------------------------------------------------------------

# the five likeliest classes say nothing where there are five
topk = (1, 5) if num_classes > 5 else (1,)
accuracy = dict(type='AccMetric', metric_options=dict(top_k_accuracy=dict(topk=topk)))
val_evaluator, test_evaluator = accuracy, accuracy
width = (
    arch['embed_dims']
    if isinstance(arch, dict)
    else dict(tiny=192, small=384, base=768, large=1024)[arch]
)
sizes = dict(_delete_=True, **arch) if isinstance(arch, dict) else arch
model = dict(
    backbone=dict(
        arch=sizes,
        img_size=img_size,
        num_frames=num_frames,
        stage_ends=None,  # at the paper's fractions of the depth
        with_cls_token=with_cls_token,
        out_type='cls_token' if with_cls_token else 'avg_featmap',
        init_cfg=start and dict(type='Pretrained', checkpoint=start, prefix=prefix),
    ),
    cls_head=dict(num_classes=num_classes, in_channels=width, topk=topk),
    data_preprocessor=dict(
        blending=dict(
            augments=[
                dict(augment, num_classes=num_classes)
                for augment in _base_.model.data_preprocessor.blending.augments
            ]
        )
    ),
)

short_side = img_size * 8 // 7  # 256 for 224
sample = dict(_base_.sample, clip_len=num_frames, frame_interval=frame_interval)
loading = [_base_.open_video, sample, _base_.decode]
light_augmentation = [
    _base_.random_crop[0],
    dict(type='Resize', scale=(img_size, img_size), keep_ratio=False),
    dict(type='Flip', flip_ratio=flip_ratio),
    *_base_.packing,
]
augmentation = [
    dict(type='Resize', scale=(-1, short_side)),
    *_base_.rand_augment[1:],
    *light_augmentation[:-2],
    *_base_.random_erasing,
    *_base_.packing,
]
crops = dict(
    val=dict(type='CenterCrop', crop_size=img_size), test=dict(type='ThreeCrop', crop_size=img_size)
)
testing = {
    loop: [
        _base_.open_video,
        dict(sample, num_clips=5 if loop == 'test' else 1, test_mode=True),
        _base_.decode,
        dict(type='Resize', scale=(-1, img_size)),
        crop,
        *_base_.packing,
    ]
    for loop, crop in crops.items()
}

videos = dict(data_root=data_root, num_classes=num_classes, val_share=val_share, seed=seed)
train_dataloader = dict(
    batch_size=batch_size,
    drop_last=False,  # a handful of videos may be less than a batch
    dataset=dict(
        type='RepeatedClassFolderDataset',
        ann_file=train_list,
        split='all' if val_list else 'train',
        pipeline=[*loading, *augmentation],
        **videos,
    ),
)
held_out = dict(
    type='ClassFolderDataset',
    ann_file=val_list or train_list,
    split='all' if val_list else 'val',
    test_mode=True,
    **videos,
)
val_dataloader = dict(batch_size=batch_size, dataset=dict(held_out, pipeline=testing['val']))
test_dataloader = dict(dataset=dict(held_out, pipeline=testing['test']))
custom_imports = dict(imports=['bimm_mm', 'bimm_mm.datasets.class_folders', 'bimm_mm.models.heads'])

train_cfg = dict(max_epochs=max_epochs)
warm_up = max(max_epochs // 10, 1)
param_scheduler = [
    dict(_base_.param_scheduler[0], end=warm_up),
    dict(_base_.param_scheduler[1], begin=warm_up),
]
if max_epochs == 1:  # a trial
    param_scheduler = [dict(_base_.param_scheduler[1], begin=0)]
# lower layers learn more slowly, unless there is nothing in them to be kept
optim_wrapper = dict(
    optimizer=dict(lr=lr), paramwise_cfg=dict(layer_decay_rate=0.75 if start else 1.0)
)
auto_scale_lr = dict(enable=False, base_batch_size=8)  # what that lr is for
default_hooks = dict(checkpoint=dict(max_keep_ckpts=2, save_best='acc/top1'))
