# MGMAE with the encoder, the data and the schedule of VideoMAE at the demo's size: the visible part
# follows the optical flow, OpenCV's here.
_base_ = ['../../bimm/demo/joint_shapes.py']

model = dict(
    _delete_=True,
    type='MaskedPretrainer',
    backbone=dict(_base_.model.dorsal.backbone, stage_ends=(6,), with_cls_token=False),
    masking=dict(type='FlowGuidedMasking', ratio=0.5, flow=dict(type='DisFlow')),
    neck=dict(
        type='MultiStageDecoder',
        decoders=[
            dict(type='TransformerDecoder', embed_dims=64, depth=2, num_heads=4, mlp_head=False),
        ],
    ),
    targets=[dict(type='PixelTarget', normalize='channel')],
)
