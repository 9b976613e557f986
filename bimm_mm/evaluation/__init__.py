"""How good an encoder is, and what it costs."""

from .metrics import MeanAbsoluteError

__all__ = ['MeanAbsoluteError']
