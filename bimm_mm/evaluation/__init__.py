"""How good an encoder is, and what it costs."""

from .metrics import ClassificationResults, MeanAbsoluteError

__all__ = ['ClassificationResults', 'MeanAbsoluteError']
