from .base import BaseMasking, Masks, draw_masks
from .block import BlockMasking, CubeMasking
from .cell import RunningCellMasking
from .guided import GuidedMasking
from .multi_block import MultiBlockMasking
from .random import RandomMasking, RandomSubset
from .text import TextGuidedMasking
from .tube import FrameMasking, TubeMasking
from .vimpac import VimpacMasking

__all__ = [
    'BaseMasking',
    'BlockMasking',
    'CubeMasking',
    'FrameMasking',
    'GuidedMasking',
    'Masks',
    'MultiBlockMasking',
    'RandomMasking',
    'RandomSubset',
    'RunningCellMasking',
    'TextGuidedMasking',
    'TubeMasking',
    'VimpacMasking',
    'draw_masks',
]
