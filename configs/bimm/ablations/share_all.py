# Table 7, sharing: all Transformer blocks.
_base_ = ['./default.py']

model = dict(share='all')
