# joint_ucf101_vitl.py with edges found online in place of the paper's contours: no cache is needed.
_base_ = ['./joint_ucf101_vitb_edge.py']

model = dict(
    init_dorsal_from='work_dirs/ventral_in1k_vitl_edge/epoch_800.pth',
    ventral=dict(backbone=dict(arch='large', stage_ends=(4, 8, 24))),
    dorsal=dict(backbone=dict(arch='large', stage_ends=(4, 8, 24))),
)
