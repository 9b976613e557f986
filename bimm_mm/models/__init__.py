from .backbones import BimmViT
from .masking import RandomMasking, TubeMasking
from .necks import LinearDecoder, MultiStageDecoder, TransformerDecoder
from .pretrainers import (
    Branch,
    ClipDataPreprocessor,
    DualBranchPretrainer,
    SingleBranchPretrainer,
)
from .targets import BaseTarget, EdgeContourTarget, GaborTarget, MotionTarget, PixelTarget

__all__ = [
    'BaseTarget',
    'BimmViT',
    'Branch',
    'ClipDataPreprocessor',
    'DualBranchPretrainer',
    'EdgeContourTarget',
    'GaborTarget',
    'LinearDecoder',
    'MotionTarget',
    'MultiStageDecoder',
    'PixelTarget',
    'RandomMasking',
    'SingleBranchPretrainer',
    'TransformerDecoder',
    'TubeMasking',
]
