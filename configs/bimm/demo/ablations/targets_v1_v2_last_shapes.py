# Not a row of table 7: V1 and V2 as the only stages, of which V2 reads the last block. The
# blocks of the default are shared.
_base_ = ['../joint_shapes.py']

two_stages = dict(
    backbone=dict(stage_ends=(2, 6)),
    neck=dict(decoders=[_base_.decoders[0], _base_.decoders[1]]),
    targets=[_base_.gabor, _base_.contour],
    loss_weights=(1.0, 8.0),
)
model = dict(share=4, ventral=two_stages, dorsal=two_stages)
