# UCF101, split 1: 16 frames, every 4th, flips; tested on 5 clips of 3 crops (paper: table 9).
# Lists have a line `path label` per video, as mmaction2's. Elsewhere:
#   --cfg-options train_dataloader.dataset.data_root=... val_dataloader.dataset.data_root=...
#                 test_dataloader.dataset.data_root=...
_base_ = ['./finetune.py']

num_classes = 101
model = dict(
    cls_head=dict(num_classes=num_classes),
    data_preprocessor=dict(
        blending=dict(  # one of the two for each batch
            type='RandomBatchAugment',
            augments=[
                dict(type='MixupBlending', alpha=0.8, num_classes=num_classes),
                dict(type='CutmixBlending', alpha=1.0, num_classes=num_classes),
            ],
        ),
    ),
)

decode = dict(type='DecordDecode')
loading = [
    dict(type='DecordInit'),
    dict(type='SampleFrames', clip_len=16, frame_interval=4, out_of_bound_opt='repeat_last'),
    decode,
]
light_augmentation = [*_base_.random_crop, *_base_.flip, *_base_.packing]  # for probes

train_dataloader = dict(
    batch_size=32,  # videos per GPU; each gives num_repeats clips
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='repeat_pseudo_collate'),
    dataset=dict(
        type='RepeatedVideoDataset',
        num_repeats=2,
        num_classes=num_classes,
        data_root='data/ucf101',
        ann_file='ucf101_train_split_1_videos.txt',
        data_prefix=dict(video='videos'),
        pipeline=[
            *loading,
            *_base_.rand_augment,
            *_base_.random_crop,
            *_base_.flip,
            *_base_.random_erasing,
            *_base_.packing,
        ],
    ),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='LabeledVideoDataset',
        test_mode=True,
        num_classes=num_classes,
        data_root='data/ucf101',
        ann_file='ucf101_val_split_1_videos.txt',
        data_prefix=dict(video='videos'),
        pipeline=[
            dict(type='DecordInit'),
            dict(
                type='SampleFrames',
                clip_len=16,
                frame_interval=4,
                out_of_bound_opt='repeat_last',
                num_clips=1,
                test_mode=True,
            ),
            decode,
            *_base_.centre_crop,
            *_base_.packing,
        ],
    ),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        val_dataloader['dataset'],
        pipeline=[
            dict(type='DecordInit'),
            dict(
                type='SampleFrames',
                clip_len=16,
                frame_interval=4,
                out_of_bound_opt='repeat_last',
                num_clips=5,
                test_mode=True,
            ),
            decode,
            *_base_.three_crops,
            *_base_.packing,
        ],
    ),
)
