from .fsdp import wrap_unshared_blocks
from .hooks import ExplainedVarianceHook, FiniteLossHook, GradientNormHook

__all__ = ['ExplainedVarianceHook', 'FiniteLossHook', 'GradientNormHook', 'wrap_unshared_blocks']
