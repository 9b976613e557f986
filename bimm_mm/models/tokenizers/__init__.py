from .base import BaseTokenizer
from .dalle import DalleTokenizer
from .diffusers_vq import DiffusersTokenizer
from .patch_codebook import PatchTokenizer
from .vqgan import VqganTokenizer

__all__ = [
    'BaseTokenizer',
    'DalleTokenizer',
    'DiffusersTokenizer',
    'PatchTokenizer',
    'VqganTokenizer',
]
