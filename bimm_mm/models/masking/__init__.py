from .base import BaseMasking, Masks, draw_masks
from .random import RandomMasking, RandomSubset
from .tube import FrameMasking, TubeMasking

__all__ = [
    'BaseMasking',
    'FrameMasking',
    'Masks',
    'RandomMasking',
    'RandomSubset',
    'TubeMasking',
    'draw_masks',
]
