# Stage 2 of BIMM, ViT-L on Kinetics-400 (paper: section 3, table 8). Stage ends at the same
# fractions of the depth, and decoders as ViT-B's (our choice).
#
# Starts from the ventral branch, pretrained on ImageNet-1K by ventral_in1k_vitl.py. Without its
# checkpoint the run stops at once, and says what may take its place.
_base_ = ['./joint_k400_vitb.py']

model = dict(
    init_dorsal_from='work_dirs/ventral_in1k_vitl/epoch_800.pth',
    ventral=dict(backbone=dict(arch='large', stage_ends=(4, 8, 24))),
    dorsal=dict(backbone=dict(arch='large', stage_ends=(4, 8, 24))),
)
