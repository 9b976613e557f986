from .base import BasePretrainer
from .bimm import DualBranchPretrainer, SingleBranchPretrainer
from .branch import Branch, BranchMixin
from .branched import BranchPretrainer
from .initialization import load_ventral_encoder
from .masked import MaskedPretrainer

__all__ = [
    'BasePretrainer',
    'Branch',
    'BranchMixin',
    'BranchPretrainer',
    'DualBranchPretrainer',
    'MaskedPretrainer',
    'SingleBranchPretrainer',
    'load_ventral_encoder',
]
