"""Transforms of pipelines that need nothing beyond the core."""

from .contours import LoadContours

__all__ = ['LoadContours']
