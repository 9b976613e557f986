# Both branches on clips (paper: section 3): the ventral one (what) on a random frame, the dorsal
# one (where, how) on the clip, with motion as the target of its last stage. The blocks of the first
# two stages are shared.
model = dict(
    type='DualBranchPretrainer',
    share='partial',
    dorsal_weight=1.0,
    # algorithm 1, line 8, initializes the dorsal encoder, and says nothing of decoders; recipes
    # name the checkpoint in init_dorsal_from
    init_dorsal_decoders=False,
    ventral=dict(
        backbone=dict(type='BimmViT', arch='base', img_size=224, stage_ends=(2, 4, 12)),
        masking=dict(type='RandomMasking', ratio=0.75),
        neck=dict(
            type='MultiStageDecoder',
            decoders=[
                dict(type='LinearDecoder', embed_dims=256, predict='masked'),
                dict(type='TransformerDecoder', embed_dims=256, depth=1, num_heads=8),
                dict(type='TransformerDecoder', embed_dims=384, depth=4, num_heads=6),
            ],
        ),
        targets=[
            dict(type='GaborTarget'),
            # of Segment Anything, made beforehand (docs/contours.md); EdgeContourTarget in its
            # place finds edges online
            dict(type='CachedContourTarget'),
            dict(type='PixelTarget'),
        ],
    ),
    dorsal=dict(
        backbone=dict(
            type='BimmViT',
            arch='base',
            img_size=224,
            num_frames=16,
            tubelet_size=2,
            stage_ends=(2, 4, 12),
        ),
        masking=dict(type='TubeMasking', ratio=0.9),
        neck=dict(
            type='MultiStageDecoder',
            decoders=[
                dict(type='LinearDecoder', embed_dims=256, predict='masked'),
                dict(type='TransformerDecoder', embed_dims=256, depth=1, num_heads=8),
                dict(type='TransformerDecoder', embed_dims=384, depth=4, num_heads=6),
            ],
        ),
        targets=[
            dict(type='GaborTarget'),
            dict(type='CachedContourTarget'),
            dict(type='MotionTarget'),
        ],
    ),
)
