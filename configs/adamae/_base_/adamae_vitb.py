# AdaMAE (Bandara et al., 2023; code wgcban/adamae), ViT-B: VideoMAE with a sampler that learns
# which 78 of 1568 tokens to show.
model = dict(
    type='MaskedPretrainer',
    backbone=dict(
        type='BimmViT',
        arch='base',
        img_size=224,
        num_frames=16,
        tubelet_size=2,
        stage_ends=(12,),
        with_cls_token=False,
        time_positions='sequence',
    ),
    masking=dict(type='AdaptiveMasking', ratio=0.95),
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
)
