# Table 7, stage ends: 12. One stage, which all three decoders read; the blocks of the default are
# shared (our reading).
_base_ = ['./default.py']

one_stage = dict(backbone=dict(stage_ends=(12,)), neck=dict(stages=(0, 0, 0)))
model = dict(share=4, ventral=one_stage, dorsal=one_stage)
