from .base import BasePretrainer
from .bimm import DualBranchPretrainer, SingleBranchPretrainer
from .branch import Branch, BranchMixin
from .branched import BranchPretrainer
from .clip_contrast import ClipContrast
from .initialization import load_ventral_encoder
from .masked import MaskedPretrainer
from .video_text_contrast import VideoTextContrast
from .vimpac import VIMPAC, CodePrediction

__all__ = [
    'VIMPAC',
    'BasePretrainer',
    'Branch',
    'BranchMixin',
    'BranchPretrainer',
    'ClipContrast',
    'CodePrediction',
    'DualBranchPretrainer',
    'MaskedPretrainer',
    'SingleBranchPretrainer',
    'VideoTextContrast',
    'load_ventral_encoder',
]
