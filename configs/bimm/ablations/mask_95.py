# Table 7, dorsal mask ratio: 0.95.
_base_ = ['../_base_/ablation.py']

model = dict(dorsal=dict(masking=dict(ratio=0.95)))
