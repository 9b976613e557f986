# TGM with the encoder, the data and the schedule of joint_shapes.py, and captions. The frozen CLIP
# is a small one, made of the same clips first (see tgm_shapes.py).
_base_ = ['../../bimm/demo/joint_shapes.py']

clip = 'work_dirs/tgm_shapes/clip'
model = dict(
    _base_.model.dorsal,
    _delete_=True,
    type='MaskedPretrainer',
    backbone=dict(
        _base_.model.dorsal.backbone,
        stage_ends=(6,),
        with_cls_token=False,
    ),
    masking=dict(
        type='TextGuidedMasking',
        ratio=0.6,
        order='bottom',  # the map of so small a CLIP is inverted (configs/tgm/demo)
        guide=dict(type='ClipGuide', checkpoint=clip),
    ),
    neck=dict(
        type='MultiStageDecoder',
        decoders=[
            dict(type='TransformerDecoder', embed_dims=64, depth=2, num_heads=4, mlp_head=False),
        ],
    ),
    targets=[dict(type='PixelTarget')],
    loss_weights=None,
    objectives=[
        dict(
            type='VideoTextContrast',
            embed_dims=96,
            text=dict(type='ClipTextEncoder', checkpoint=clip),
            text_dims=64,
        ),
    ],
)
train_dataloader = dict(dataset=dict(captions=True))
