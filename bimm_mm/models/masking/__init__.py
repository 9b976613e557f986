from .base import BaseMasking, Masks, draw_masks
from .block import BlockMasking, CubeMasking
from .cell import RunningCellMasking
from .flow import FlowGuidedMasking
from .guided import GuidedMasking
from .learned import AdaptiveMasking
from .motion import FrameDifferenceMasking, MotionVectorMasking
from .multi_block import MultiBlockMasking
from .random import RandomMasking, RandomSubset
from .text import TextGuidedMasking
from .tube import FrameMasking, TubeMasking
from .vimpac import VimpacMasking

__all__ = [
    'AdaptiveMasking',
    'BaseMasking',
    'BlockMasking',
    'CubeMasking',
    'FlowGuidedMasking',
    'FrameDifferenceMasking',
    'FrameMasking',
    'GuidedMasking',
    'Masks',
    'MotionVectorMasking',
    'MultiBlockMasking',
    'RandomMasking',
    'RandomSubset',
    'RunningCellMasking',
    'TextGuidedMasking',
    'TubeMasking',
    'VimpacMasking',
    'draw_masks',
]
