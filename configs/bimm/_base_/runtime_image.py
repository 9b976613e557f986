# The same for configs that read images, for which mmpretrain is needed.
_base_ = ['./runtime.py']

custom_imports = dict(imports=['bimm_mm', 'bimm_mm.datasets.image'])
