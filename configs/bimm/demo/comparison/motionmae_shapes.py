# In the manner of MotionMAE at the demo's size: videomae_shapes.py, and a second decoder that reads
# the same last stage and predicts motion.
_base_ = ['../joint_shapes.py']

decoder = dict(type='TransformerDecoder', embed_dims=64, depth=2, num_heads=4, mlp_head=False)
model = dict(
    _delete_=True,
    type='SingleBranchPretrainer',
    dorsal=dict(
        backbone=dict(_base_.model.dorsal.backbone, stage_ends=(6,), with_cls_token=False),
        masking=dict(type='TubeMasking', ratio=0.5),
        neck=dict(type='MultiStageDecoder', decoders=[decoder, decoder], stages=(0, 0)),
        targets=[
            dict(type='PixelTarget', normalize='channel'),
            dict(type='MotionTarget', scale=1.0),
        ],
    ),
)
