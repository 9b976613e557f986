# Table 7, targets: V1 alone. Only the loss of V1 is computed (paper: section 4.3), nothing moves.
# What serves the other losses alone, decoders and blocks 3 to 12, stays as it was initialized.
_base_ = ['./default.py']

v1 = dict(loss_weights=(1.0, 0.0, 0.0))
model = dict(ventral=v1, dorsal=v1)
