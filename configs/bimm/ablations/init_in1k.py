# Table 7, dorsal initialisation: ventral branch trained on ImageNet-1K (the default).
_base_ = ['../_base_/ablation.py']
