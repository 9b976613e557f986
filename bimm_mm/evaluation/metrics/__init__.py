"""Metrics of mmengine's evaluators."""

from .classification_results import ClassificationResults
from .mean_absolute_error import MeanAbsoluteError

__all__ = ['ClassificationResults', 'MeanAbsoluteError']
