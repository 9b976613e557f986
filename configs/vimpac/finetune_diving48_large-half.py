# Finetuning VIMPAC's large model on Diving48 (table 4):
# 50 epochs, 10 frames at 4 fps, 256x256 pixels. The paper reports 85.5 (table 1).
# The environment variable DIVING48 says where the data set is.
# Codes are made at 16 fps (--fps 16), of which every fourth is taken.
_base_ = ['./_base_/finetune.py', '../_base_/runtime.py']

num_classes = 48
data_root = '{{$DIVING48:data/diving48}}'

model = dict(
    backbone=dict(
        arch='large_half',
        grid_size=(10, 32, 32),
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/vimpac_videos_large-half_256/epoch_100.pth',
            prefix='backbone.',
        ),
    ),
    cls_head=dict(num_classes=num_classes, in_channels=1024),
)

code_cache = f'{data_root}/codes_finetuning'
train_dataloader = dict(
    dataset=dict(
        code_cache=code_cache,
        ann_file=f'{data_root}/diving48_train_list_videos.txt',
        frame_interval=4,
    ),
)
val_dataloader = dict(
    dataset=dict(
        code_cache=code_cache,
        ann_file=f'{data_root}/diving48_val_list_videos.txt',
        frame_interval=4,
    ),
)
test_dataloader = dict(
    dataset=dict(
        code_cache=code_cache,
        ann_file=f'{data_root}/diving48_val_list_videos.txt',
        frame_interval=4,
    ),
)

optim_wrapper = dict(optimizer=dict(lr=5e-5))
train_cfg = dict(max_epochs=50)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=5, convert_to_iter_based=True),
    dict(
        type='LinearLR',
        start_factor=1.0,
        end_factor=0.0,
        begin=5,
        end=50,
        convert_to_iter_based=True,
    ),
]
default_hooks = dict(checkpoint=dict(max_keep_ckpts=2, save_best='acc/top1'))
