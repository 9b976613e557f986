"""Metrics of mmengine's evaluators."""

from .mean_absolute_error import MeanAbsoluteError

__all__ = ['MeanAbsoluteError']
