# Table 7, ventral branch: both branches (the default).
_base_ = ['../_base_/ablation.py']
