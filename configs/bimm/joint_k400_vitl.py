# Stage 2 of BIMM, ViT-L on Kinetics-400 (paper: section 3, table 8). Stage ends at the same
# fractions of the depth, and decoders as ViT-B's (our choice).
#
# The paper starts from the ventral branch, pretrained on ImageNet-1K, and so should every real run.
# Here init_dorsal_from is None, so that this file runs from a clone; train ventral_in1k_vitl.py
# first and add
#   --cfg-options model.init_dorsal_from=work_dirs/ventral_in1k_vitl/epoch_800.pth
_base_ = ['./joint_k400_vitb.py']

model = dict(
    ventral=dict(backbone=dict(arch='large', stage_ends=(4, 8, 24))),
    dorsal=dict(backbone=dict(arch='large', stage_ends=(4, 8, 24))),
)
