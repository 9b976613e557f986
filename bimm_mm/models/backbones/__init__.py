from .adapters import MaskedEncoder, MmpretrainEncoder
from .bimm_vit import BimmViT
from .loading import inflate_patch_embedding
from .vimpac_vit import VimpacViT

__all__ = [
    'BimmViT',
    'MaskedEncoder',
    'MmpretrainEncoder',
    'VimpacViT',
    'inflate_patch_embedding',
]
