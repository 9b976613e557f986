from .backbones import BimmViT
from .masking import RandomMasking, TubeMasking
from .necks import LinearDecoder, MultiStageDecoder, TransformerDecoder
from .pretrainers import (
    Branch,
    ClipDataPreprocessor,
    DualBranchPretrainer,
    SingleBranchPretrainer,
)
from .targets import (
    BaseTarget,
    CachedContourTarget,
    ContourTarget,
    EdgeContourTarget,
    GaborTarget,
    MotionTarget,
    PixelTarget,
    SamContourTarget,
)

__all__ = [
    'BaseTarget',
    'BimmViT',
    'Branch',
    'CachedContourTarget',
    'ClipDataPreprocessor',
    'ContourTarget',
    'DualBranchPretrainer',
    'EdgeContourTarget',
    'GaborTarget',
    'LinearDecoder',
    'MotionTarget',
    'MultiStageDecoder',
    'PixelTarget',
    'RandomMasking',
    'SamContourTarget',
    'SingleBranchPretrainer',
    'TransformerDecoder',
    'TubeMasking',
]
