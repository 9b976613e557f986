# The ventral branch (what): images, random masking, and Gabor features, contours and pixels as
# targets of the stages V1, V2 and V4 (paper: section 3).
model = dict(
    type='SingleBranchPretrainer',
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
)
