# Table 7, stage ends: 4, 8, 12. The first two stages are shared, 8 blocks that is (our reading).
_base_ = ['./default.py']

stages = dict(backbone=dict(stage_ends=(4, 8, 12)))
model = dict(ventral=stages, dorsal=stages)
