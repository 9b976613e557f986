"""Transforms of pipelines that need nothing beyond the core."""

from .captions import LoadCaption
from .codes import GridCrop, LoadCodes
from .contours import LoadContours
from .crops import MultiScaleCropResize
from .images import LoadImage
from .loading import AvInit, VideoDecode, VideoInit
from .motion_vectors import LoadMotionVectors, PackMotionVectors
from .sampling import SampleAtRate

__all__ = [
    'AvInit',
    'GridCrop',
    'LoadCaption',
    'LoadCodes',
    'LoadContours',
    'LoadImage',
    'LoadMotionVectors',
    'MultiScaleCropResize',
    'PackMotionVectors',
    'SampleAtRate',
    'VideoDecode',
    'VideoInit',
]
