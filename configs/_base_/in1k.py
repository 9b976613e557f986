# ImageNet-1K: random crop, no flip (paper: table 8). How to crop is MAE's way. The environment
# variable IMAGENET says where the data set is. Labels are not needed, so any folder of images will
# do, with or without a subfolder per class:
#   --cfg-options train_dataloader.dataset.data_root=/path/to/images
# A list of files: ann_file, as for mmpretrain.CustomDataset.
custom_imports = dict(imports=['bimm_mm', 'bimm_mm.datasets.image'])

train_dataloader = dict(
    batch_size=128,  # per GPU
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='ImageFolderDataset',
        data_root='{{$IMAGENET:data/imagenet}}/train',
        with_label=False,
        pipeline=[
            dict(type='LoadImage'),
            dict(type='mmpretrain.NumpyToPIL', to_rgb=True),
            dict(type='LoadContours'),  # where the data set has a contour_cache
            dict(
                type='mmpretrain.torchvision/RandomResizedCrop',
                size=224,
                scale=(0.2, 1.0),
                interpolation='bicubic',
            ),
            dict(type='mmpretrain.PackInputs'),
        ],
    ),
)
