# Table 7, dorsal mask ratio: 0.5.
_base_ = ['./default.py']

model = dict(dorsal=dict(masking=dict(ratio=0.5)))
