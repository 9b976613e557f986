# Not a row of table 7: V1 and V2 as the only stages, of which V2 reads the last block, so that the
# whole encoder is trained. The blocks of the default are shared. The row is targets_v1_v2.py.
_base_ = ['./default.py']

two_stages = dict(
    backbone=dict(stage_ends=(2, 12)),
    neck=dict(
        decoders=[
            dict(type='LinearDecoder', embed_dims=256, predict='masked'),
            dict(type='TransformerDecoder', embed_dims=256, depth=1, num_heads=8),
        ]
    ),
    targets=[dict(type='GaborTarget'), dict(type='CachedContourTarget')],
)
model = dict(share=4, ventral=two_stages, dorsal=two_stages)
