# Stage 1 of BIMM, ViT-L on ImageNet-1K (paper: section 3, table 8). Stage ends at the same
# fractions of the depth, and decoders as ViT-B's (our choice).
_base_ = ['./ventral_in1k_vitb.py']

model = dict(ventral=dict(backbone=dict(arch='large', stage_ends=(4, 8, 24))))
