# Table 7, sharing: none.
_base_ = ['../_base_/ablation.py']

model = dict(share='none')
