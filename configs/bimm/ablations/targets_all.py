# Table 7, targets: V1, V2, and V4 & MT (the default).
_base_ = ['../_base_/ablation.py']
