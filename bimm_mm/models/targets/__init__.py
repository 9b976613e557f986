from .base import BaseTarget
from .contour import EdgeContourTarget
from .gabor import GaborTarget
from .motion import MotionTarget
from .pixel import PixelTarget

__all__ = ['BaseTarget', 'EdgeContourTarget', 'GaborTarget', 'MotionTarget', 'PixelTarget']
