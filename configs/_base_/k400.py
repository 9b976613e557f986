# Kinetics-400: 16 frames, random crop, no flip (paper: table 8). That every 4th frame is taken, and
# how to crop, is VideoMAE's way. The environment variable KINETICS400 says where the data set is.
# (Pipelines of finetuning are in configs/bimm/_base_/finetune_video.py.)
# Any folder of videos will do, no labels are needed:
#   --cfg-options train_dataloader.dataset.data_root=/path/to/videos
custom_imports = dict(imports=['bimm_mm', 'bimm_mm.datasets.video'])

train_dataloader = dict(
    batch_size=16,  # per GPU
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='VideoFolderDataset',
        data_root='{{$KINETICS400:data/kinetics400}}/videos_train',
        pipeline=[
            dict(type='VideoInit'),
            dict(
                type='mmaction.SampleFrames',
                clip_len=16,
                frame_interval=4,
                num_clips=1,
                out_of_bound_opt='repeat_last',
            ),
            dict(type='VideoDecode'),
            dict(type='LoadContours'),  # where the data set has a contour_cache
            dict(type='LoadMotionVectors'),  # where it asks: with_motion_vectors=True
            # Resize(scale=(-1, 256)), MultiScaleCrop and Resize(scale=(224, 224)) in one step
            dict(type='MultiScaleCropResize', size=224, scales=(1, 0.875, 0.75, 0.66)),
            dict(type='LoadCaption'),  # where the data set has a caption_file
            dict(type='PackMotionVectors'),
            dict(type='mmaction.FormatShape', input_format='NCTHW'),
            dict(
                type='mmaction.PackActionInputs',
                meta_keys=('img_shape', 'caption', 'motion_vectors'),
            ),
        ],
    ),
)
