# MGMAE (Huang et al., 2023; code MCG-NJU/MGMAE), ViT-B: VideoMAE with masks that follow the
# optical flow. 19 of 196 patches of a tubelet are visible, wherever motion takes them. Without
# RAFT's weights, flow=dict(_delete_=True, type='DisFlow') takes OpenCV's.
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
    masking=dict(
        type='FlowGuidedMasking',
        ratio=0.9,
        flow=dict(type='RaftFlow', checkpoint='weights/raft_small_C_T_V2-01064c6d.pth'),
    ),
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
