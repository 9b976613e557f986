"""Datasets that need nothing beyond the core.

`bimm_mm.datasets.video` needs mmaction2 and is imported by the configs that use it.
"""

from .moving_shapes import MovingShapesDataset

__all__ = ['MovingShapesDataset']
