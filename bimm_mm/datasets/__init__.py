"""Datasets that need nothing beyond the core.

`bimm_mm.datasets.video` needs mmaction2, `bimm_mm.datasets.image` mmpretrain; they are imported by
the configs that use them.
"""

from .contours import LoadContours
from .moving_shapes import MovingShapesDataset

__all__ = ['LoadContours', 'MovingShapesDataset']
