# In the manner of MGM (Fan et al., ICCV 2023; arXiv 2308.12962), ViT-B: VideoMAE with masks that
# follow the codec's motion vectors. That masks are contiguous in space and time and follow the
# vectors is from the abstract, the ratio from notes about the paper; how the rectangle is placed
# is our choice, as is everything else, VideoMAE's.
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
    masking=dict(type='MotionVectorMasking', ratio=0.75),
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
