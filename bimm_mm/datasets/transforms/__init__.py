"""Transforms of pipelines that need nothing beyond the core."""

from .contours import LoadContours
from .crops import MultiScaleCropResize
from .loading import AvInit, VideoDecode, VideoInit

__all__ = ['AvInit', 'LoadContours', 'MultiScaleCropResize', 'VideoDecode', 'VideoInit']
