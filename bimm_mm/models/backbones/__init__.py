from .bimm_vit import BimmViT

__all__ = ['BimmViT']
