from .adapters import MaskedEncoder, MmpretrainEncoder
from .bimm_vit import BimmViT

__all__ = ['BimmViT', 'MaskedEncoder', 'MmpretrainEncoder']
