"""Heads on :class:`BimmViT` for mmaction2's recognizers, which this package needs to be imported.

A head gets what the backbone returns, a tuple of which the last feature is read. It gives float32
under autocast, too: mmaction2 counts hits in numpy, which has no bfloat16.
"""

from .attentive_head import AttentiveHead
from .cls_head import BimmClsHead
from .regression_head import RegressionHead

__all__ = ['AttentiveHead', 'BimmClsHead', 'RegressionHead']
