from .backbones import BimmViT, MaskedEncoder, MmpretrainEncoder
from .masking import RandomMasking, TubeMasking
from .necks import (
    LayerNorm2d,
    LinearDecoder,
    MultiStageDecoder,
    SimpleFeaturePyramid,
    TransformerDecoder,
)
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
    GeneratorTarget,
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
    'GeneratorTarget',
    'LayerNorm2d',
    'LinearDecoder',
    'MaskedEncoder',
    'MmpretrainEncoder',
    'MotionTarget',
    'MultiStageDecoder',
    'PixelTarget',
    'RandomMasking',
    'SamContourTarget',
    'SimpleFeaturePyramid',
    'SingleBranchPretrainer',
    'TransformerDecoder',
    'TubeMasking',
]
