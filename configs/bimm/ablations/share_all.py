# Table 7, sharing: all Transformer blocks.
_base_ = ['../_base_/ablation.py']

model = dict(share='all')
