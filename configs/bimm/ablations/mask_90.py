# Table 7, dorsal mask ratio: 0.9 (the default).
_base_ = ['../_base_/ablation.py']
