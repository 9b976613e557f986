# As vimpac_videos_small.py, with codes that are made while it trains: no codes are stored, and the
# tokenizer costs its forward pass on 10 frames per video. Videos are read at 2 fps; those shorter
# than 5 such frames are filled up with PAD.
_base_ = ['./vimpac_videos_small.py']

custom_imports = dict(imports=['bimm_mm', 'bimm_mm.datasets.video'])

model = dict(
    backbone=dict(
        tokenizer=dict(type='DalleTokenizer', checkpoint='weights/dalle/encoder.pkl'),
    ),
    data_preprocessor=dict(type='ClipDataPreprocessor', side_inputs=('num_valid_frames',)),
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
