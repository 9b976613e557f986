from .branch import Branch
from .initialisation import inflate_patch_embedding, load_ventral_encoder
from .preprocessor import ClipDataPreprocessor
from .pretrainers import DualBranchPretrainer, SingleBranchPretrainer

__all__ = [
    'Branch',
    'ClipDataPreprocessor',
    'DualBranchPretrainer',
    'SingleBranchPretrainer',
    'inflate_patch_embedding',
    'load_ventral_encoder',
]
