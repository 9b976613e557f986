# Table 7 at the demo's size, stage ends: the last block, which all three decoders read. The blocks
# of the default are shared.
_base_ = ['../joint_shapes.py']

one_stage = dict(backbone=dict(stage_ends=(6,)), neck=dict(stages=(0, 0, 0)))
model = dict(share=4, ventral=one_stage, dorsal=one_stage)
