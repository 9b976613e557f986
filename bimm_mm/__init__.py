"""BIMM, Brain Inspired Masked Modeling, as parts for OpenMMLab. Importing it registers them."""

from . import compat
from .version import __version__

compat.apply()

from . import datasets, engine, evaluation, models  # noqa: E402

__all__ = ['__version__', 'compat', 'datasets', 'engine', 'evaluation', 'models']
