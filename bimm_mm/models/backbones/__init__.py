from .adapters import MaskedEncoder, MmpretrainEncoder
from .bimm_vit import BimmViT
from .loading import inflate_patch_embedding

__all__ = ['BimmViT', 'MaskedEncoder', 'MmpretrainEncoder', 'inflate_patch_embedding']
