"""Contours on disk: their format, the cache that training reads, and what makes it.

Nothing here needs OpenMMLab. Segment Anything and the video libraries are imported where they are
used.
"""

from .cache import ContourCache
from .format import ContourCacheError, ContourFile
from .writer import ContourWriter

__all__ = ['ContourCache', 'ContourCacheError', 'ContourFile', 'ContourWriter']
