from .base import BaseTarget
from .contour import CachedContourTarget, ContourTarget, EdgeContourTarget
from .foreign import GeneratorTarget
from .gabor import GaborTarget
from .motion import MotionTarget
from .pixel import PixelTarget
from .sam import SamContourTarget

__all__ = [
    'BaseTarget',
    'CachedContourTarget',
    'ContourTarget',
    'EdgeContourTarget',
    'GaborTarget',
    'GeneratorTarget',
    'MotionTarget',
    'PixelTarget',
    'SamContourTarget',
]
