from .attention import Attention, cut_windows, join_windows
from .patches import (
    CodeEmbed,
    PatchEmbed,
    gather_tokens,
    ids_to_mask,
    patchify,
    scatter_tokens,
    unpatchify,
    unravel_ids,
)
from .positions import (
    TIME_POSITIONS,
    resize_position_embedding,
    sequence_position_embedding,
    sincos_position_embedding,
)
from .transformer import TransformerBlock, init_transformer

__all__ = [
    'TIME_POSITIONS',
    'Attention',
    'CodeEmbed',
    'PatchEmbed',
    'TransformerBlock',
    'cut_windows',
    'gather_tokens',
    'ids_to_mask',
    'init_transformer',
    'join_windows',
    'patchify',
    'resize_position_embedding',
    'scatter_tokens',
    'sequence_position_embedding',
    'sincos_position_embedding',
    'unpatchify',
    'unravel_ids',
]
