from .decoders import LinearDecoder, TransformerDecoder
from .multi_stage_decoder import MultiStageDecoder
from .simple_feature_pyramid import LayerNorm2d, SimpleFeaturePyramid

__all__ = [
    'LayerNorm2d',
    'LinearDecoder',
    'MultiStageDecoder',
    'SimpleFeaturePyramid',
    'TransformerDecoder',
]
