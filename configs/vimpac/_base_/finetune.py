# VIMPAC's finetuning (table 4): a linear layer, zero at first, on the class token. In training one
# of 12 stored views of each clip is drawn (2 sizes x 3 crops x 2 flips); testing averages
# the probabilities of 10 clips x 3 crops. Codes are made beforehand:
#   python tools/dataset_converters/extract_codes.py VIDEOS CODES --tokenizer DalleTokenizer \
#       --checkpoint encoder.pkl --size 256 --finetuning
# Recipes add the data set: number of classes, codes, lists, epochs. Those at 4 fps take every
# fourth frame of codes that are made with --fps 16.
# Start it with --amp.
_base_ = ['../../_base_/runtime.py']

custom_imports = dict(imports=['bimm_mm', 'bimm_mm.datasets.labeled_codes', 'bimm_mm.models.heads'])
default_scope = 'mmaction'

model = dict(
    type='Recognizer3D',
    backbone=dict(
        type='VimpacViT',
        arch='large_half',
        grid_size=(10, 32, 32),
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/vimpac_videos_large-half_256/epoch_100.pth',
            prefix='backbone.',
        ),
    ),
    cls_head=dict(
        type='BimmClsHead',
        in_channels=1024,
        dropout_ratio=0.0,
        init_std=0.0,
        average_clips='prob',
    ),
    data_preprocessor=dict(type='CodeDataPreprocessor', flatten=False),
    test_cfg=dict(max_testing_views=10),  # of 30, at once
)

train_dataloader = dict(
    batch_size=16,  # per GPU; the paper's 128 are those of 8 GPUs
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(type='LabeledCodeClipsDataset', num_frames=10, num_clips=1),
)
val_dataloader = dict(
    batch_size=16,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='LabeledCodeClipsDataset',
        num_frames=10,
        num_clips=1,
        views=dict(resize=256, crop='center', flip=False),
        test_mode=True,
    ),
)
test_dataloader = dict(
    batch_size=1,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='LabeledCodeClipsDataset',
        num_frames=10,
        num_clips=10,
        views=dict(resize=256, flip=False),
        test_mode=True,
    ),
)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(
        type='AdamW', lr=5e-5, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, fused=True
    ),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=1.0),
)
# 10 % of the epochs to warm up, then down to 0 at the end of the run
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=50, val_interval=5)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=5, convert_to_iter_based=True),
    dict(type='LinearLR', start_factor=1.0, end_factor=0.0, begin=5, convert_to_iter_based=True),
]
default_hooks = dict(checkpoint=dict(max_keep_ckpts=2, save_best='acc/top1'))
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
val_evaluator = dict(type='AccMetric')
test_evaluator = val_evaluator
custom_hooks = [dict(type='FiniteLossHook')]
