# VideoMAE (Tong et al., 2022) as one dorsal branch: a single stage, which predicts the pixels, each
# color channel of a cube normalized; no class token; a decoder of 4 blocks with a linear head.
model = dict(
    type='SingleBranchPretrainer',
    dorsal=dict(
        backbone=dict(
            type='BimmViT',
            arch='base',
            img_size=224,
            num_frames=16,
            tubelet_size=2,
            stage_ends=(12,),
            with_cls_token=False,
            time_positions='sequence',  # VideoMAE's own
        ),
        masking=dict(type='TubeMasking', ratio=0.9),
        neck=dict(
            type='MultiStageDecoder',
            decoders=[
                dict(
                    type='TransformerDecoder',
                    embed_dims=384,
                    depth=4,
                    num_heads=6,
                    mlp_head=False,
                    time_positions='sequence',
                ),
            ],
        ),
        targets=[dict(type='PixelTarget', normalize='channel', eps=1e-6)],
    ),
)
