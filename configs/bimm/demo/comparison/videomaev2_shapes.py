# VideoMAE V2's dual masking at the demo's size: videomae_shapes.py, whose decoder is asked for half
# of the cubes in running cells, those that the encoder did not see.
_base_ = ['../joint_shapes.py']

model = dict(
    _delete_=True,
    type='SingleBranchPretrainer',
    dorsal=dict(
        backbone=dict(_base_.model.dorsal.backbone, stage_ends=(6,), with_cls_token=False),
        masking=dict(type='TubeMasking', ratio=0.5),
        decoder_masking=dict(type='RunningCellMasking', ratio=0.5),
        neck=dict(
            type='MultiStageDecoder',
            decoders=[
                dict(
                    type='TransformerDecoder', embed_dims=64, depth=2, num_heads=4, mlp_head=False
                ),
            ],
        ),
        targets=[dict(type='PixelTarget', normalize='channel')],
    ),
)
