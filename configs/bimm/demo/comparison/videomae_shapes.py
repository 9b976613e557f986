# VideoMAE at the demo's size: one stage, pixels with each channel of a cube normalized, no class
# token. Data, masks, encoder, decoder and schedule are those of joint_shapes.py.
_base_ = ['../joint_shapes.py']

model = dict(
    _delete_=True,
    type='SingleBranchPretrainer',
    dorsal=dict(
        backbone=dict(
            type='BimmViT',
            arch=dict(embed_dims=96, depth=6, num_heads=4),
            img_size=32,
            patch_size=8,
            num_frames=8,
            tubelet_size=2,
            stage_ends=(6,),
            with_cls_token=False,
        ),
        masking=dict(type='TubeMasking', ratio=0.5),
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
