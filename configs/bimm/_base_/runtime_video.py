# The same for configs that read videos, for which mmaction2 is needed.
_base_ = ['./runtime.py']

custom_imports = dict(imports=['bimm_mm', 'bimm_mm.datasets.video'])
