# An example of regression: the encoder predicts numbers instead of classes. Lists have a line
# `path number` per video, or `path number number ...` with num_outputs=2 and so on; scale the
# numbers to a standard deviation of about one. Schedule and augmentation are those of
# finetune_ucf101_vitb.py, without RandAugment, random erasing, mixup and cutmix.
_base_ = ['./finetune_ucf101_vitb.py']

model = dict(
    cls_head=dict(_delete_=True, type='RegressionHead', num_outputs=1, in_channels=768),
    data_preprocessor=dict(blending=None),
)

train_dataloader = dict(
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        _delete_=True,
        type='VideoRegressionDataset',
        data_root='data/ratings',
        ann_file='train.txt',
        data_prefix=dict(video='videos'),
        pipeline=[*_base_.loading, *_base_.light_augmentation],
    ),
)
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='VideoRegressionDataset',
        test_mode=True,
        data_root='data/ratings',
        ann_file='val.txt',
        data_prefix=dict(video='videos'),
        pipeline=_base_.val_dataloader.dataset.pipeline,
    ),
)
test_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='VideoRegressionDataset',
        test_mode=True,
        data_root='data/ratings',
        ann_file='val.txt',
        data_prefix=dict(video='videos'),
        pipeline=_base_.test_dataloader.dataset.pipeline,
    ),
)
val_evaluator = dict(type='MeanAbsoluteError')
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(save_best='regression/mae', rule='less'))
