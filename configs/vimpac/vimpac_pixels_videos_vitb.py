# What VIMPAC's paper suggests in section 4.2 and leaves open: pixels in, codes out. A ViT-B sees
# patches of 8x8 pixels of 5 frames, masked ones as mask tokens; it predicts the codes of masked
# patches, and two clips of a video are brought together. Masks, contrast, data and schedule are
# those of vimpac_videos_small_online.py; the encoder is our choice.
_base_ = ['./vimpac_videos_small.py']

custom_imports = dict(imports=['bimm_mm', 'bimm_mm.datasets.video'])

model = dict(
    _delete_=True,
    type='MaskedPretrainer',
    backbone=dict(
        type='BimmViT',
        arch='base',
        img_size=128,
        patch_size=8,
        num_frames=5,
        tubelet_size=1,
        stage_ends=(12,),
        masked='token',
    ),
    masking=dict(type='VimpacMasking', num_blocks=5),
    tokenizer=dict(type='DalleTokenizer', checkpoint='weights/dalle/encoder.pkl'),
    neck=dict(type='MultiStageDecoder', decoders=[dict(type='PickDecoder')]),
    targets=[dict(type='CodeTarget', num_codes=8192, frames='first')],
    objectives=[dict(type='ClipContrast', embed_dims=768)],
)

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='VideoFolderDataset',
        data_root='{{$VIDEOS:data/videos}}',
        num_repeats=2,
        pipeline=[
            dict(type='mmaction.DecordInit'),
            dict(type='SampleAtRate', num_frames=5, fps=2),
            dict(type='mmaction.DecordDecode'),
            dict(type='mmaction.Resize', scale=(-1, 128)),
            dict(type='mmaction.CenterCrop', crop_size=128),
            dict(type='mmaction.FormatShape', input_format='NCTHW'),
            dict(
                type='mmaction.PackActionInputs',
                meta_keys=('filename', 'num_valid_frames'),
            ),
        ],
    ),
)
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys=dict(
            _delete_=True, **{'objectives.0.projector.norms.0.weight': dict(decay_mult=1.0)}
        )
    )
)
