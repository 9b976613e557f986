from .branch import Branch
from .initialisation import load_ventral_encoder
from .preprocessor import ClipDataPreprocessor
from .pretrainers import DualBranchPretrainer, SingleBranchPretrainer

__all__ = [
    'Branch',
    'ClipDataPreprocessor',
    'DualBranchPretrainer',
    'SingleBranchPretrainer',
    'load_ventral_encoder',
]
