# Table 7, sharing: none.
_base_ = ['./default.py']

model = dict(share='none')
