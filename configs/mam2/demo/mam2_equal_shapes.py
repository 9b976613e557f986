# MAM2 with the encoder, the data and the schedule of joint_shapes.py: codes of a codebook of 64
# patches of 8x8 pixels, and signed motion, from one regressor.
_base_ = ['../../bimm/demo/joint_shapes.py']

codebook = 'work_dirs/mam2_shapes/codebook.pth'
num_codes = 64
decoder = dict(type='LatentDecoder', depth=1, num_heads=4)
model = dict(
    _base_.model.dorsal,
    _delete_=True,
    type='MaskedPretrainer',
    backbone=dict(
        _base_.model.dorsal.backbone,
        stage_ends=(6,),
        with_cls_token=False,
    ),
    tokenizer=dict(type='PatchTokenizer', checkpoint=codebook),
    neck=dict(
        type='RegressorDecoder',
        embed_dims=64,
        depth=1,
        num_heads=4,
        decoders=[decoder, decoder],
    ),
    targets=[
        dict(type='CodeTarget', num_codes=num_codes),
        dict(type='MotionTarget', absolute=False, scale=1.0),
    ],
    loss_weights=(1.0, 8.0),
)
