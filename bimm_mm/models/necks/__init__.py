from .code_head import TiedCodeHead
from .decoders import LinearDecoder, PickDecoder, TransformerDecoder
from .multi_stage_decoder import MultiStageDecoder
from .projector import ContrastProjector
from .regressor import IdentityDecoder, LatentDecoder, RegressorDecoder
from .simple_feature_pyramid import LayerNorm2d, SimpleFeaturePyramid

__all__ = [
    'ContrastProjector',
    'IdentityDecoder',
    'LatentDecoder',
    'LayerNorm2d',
    'LinearDecoder',
    'MultiStageDecoder',
    'PickDecoder',
    'RegressorDecoder',
    'SimpleFeaturePyramid',
    'TiedCodeHead',
    'TransformerDecoder',
]
