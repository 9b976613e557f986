# Table 7, targets: V1 and V2. Only their losses are computed (paper: section 4.3), nothing moves.
# What serves the last stage alone, decoders and blocks 5 to 12, stays as it was initialized.
_base_ = ['./default.py']

v1_v2 = dict(loss_weights=(1.0, 1.0, 0.0))
model = dict(ventral=v1_v2, dorsal=v1_v2)
