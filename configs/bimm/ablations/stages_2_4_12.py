# Table 7, stage ends: 2, 4, 12 (the default).
_base_ = ['../_base_/ablation.py']
