# Table 7, sharing: partial, the blocks of V1 and V2 (the default).
_base_ = ['../_base_/ablation.py']
