"""Datasets that need nothing beyond the core.

`bimm_mm.datasets.video` needs mmaction2, `bimm_mm.datasets.image` mmpretrain; they are imported by
the configs that use them.
"""

from .moving_shapes import MovingShapesDataset
from .transforms import AvInit, LoadContours, VideoDecode, VideoInit

__all__ = ['AvInit', 'LoadContours', 'MovingShapesDataset', 'VideoDecode', 'VideoInit']
