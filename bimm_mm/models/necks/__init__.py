from .decoders import LinearDecoder, TransformerDecoder
from .multi_stage_decoder import MultiStageDecoder

__all__ = ['LinearDecoder', 'MultiStageDecoder', 'TransformerDecoder']
