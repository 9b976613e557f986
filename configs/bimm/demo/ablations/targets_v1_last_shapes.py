# Not a row of table 7: V1 alone as the only stage, of masked patches, read from the last block. The
# blocks of the default are shared.
_base_ = ['../joint_shapes.py']

one_stage = dict(
    backbone=dict(stage_ends=(6,)),
    neck=dict(decoders=[dict(type='LinearDecoder', embed_dims=64, predict='masked')]),
    targets=[_base_.gabor],
    loss_weights=None,
)
model = dict(share=4, ventral=one_stage, dorsal=one_stage)
