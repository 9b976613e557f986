from .base import BaseTarget
from .codes import CodeTarget
from .contour import CachedContourTarget, ContourTarget, EdgeContourTarget
from .gabor import GaborTarget
from .generator_target import GeneratorTarget
from .latent import LatentTarget
from .motion import MotionTarget
from .pixel import PixelTarget
from .sam import SamContourTarget

__all__ = [
    'BaseTarget',
    'CachedContourTarget',
    'CodeTarget',
    'ContourTarget',
    'EdgeContourTarget',
    'GaborTarget',
    'GeneratorTarget',
    'LatentTarget',
    'MotionTarget',
    'PixelTarget',
    'SamContourTarget',
]
