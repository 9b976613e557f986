# Table 7, stage ends: 6, 9, 12. The first two stages are shared, 9 blocks that is (our reading).
_base_ = ['./default.py']

stages = dict(backbone=dict(stage_ends=(6, 9, 12)))
model = dict(ventral=stages, dorsal=stages)
