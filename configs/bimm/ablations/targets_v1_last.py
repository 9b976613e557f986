# Not a row of table 7: V1 alone as the only stage, whose decoder reads the last block, so that the
# whole encoder is trained. The blocks of the default are shared. The row is targets_v1.py.
_base_ = ['./default.py']

one_stage = dict(
    backbone=dict(stage_ends=(12,)),
    neck=dict(decoders=[dict(type='LinearDecoder', embed_dims=256, predict='masked')]),
    targets=[dict(type='GaborTarget')],
)
train_dataloader = dict(dataset=dict(contour_cache=None))
model = dict(share=4, ventral=one_stage, dorsal=one_stage)
