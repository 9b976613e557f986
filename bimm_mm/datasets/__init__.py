"""Datasets that need nothing beyond the core.

`bimm_mm.datasets.video` needs mmaction2, `bimm_mm.datasets.image` mmpretrain; they are imported by
the configs that use them.
"""

from .clip_views import ClipViewsDataset, CodeClipsDataset
from .moving_shapes import MovingShapesDataset
from .transforms import (
    AvInit,
    LoadCaption,
    LoadContours,
    LoadMotionVectors,
    PackMotionVectors,
    VideoDecode,
    VideoInit,
)

__all__ = [
    'AvInit',
    'ClipViewsDataset',
    'CodeClipsDataset',
    'LoadCaption',
    'LoadContours',
    'LoadMotionVectors',
    'MovingShapesDataset',
    'PackMotionVectors',
    'VideoDecode',
    'VideoInit',
]
