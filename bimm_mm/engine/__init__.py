from .hooks import ExplainedVarianceHook, FiniteLossHook, GradientNormHook

__all__ = ['ExplainedVarianceHook', 'FiniteLossHook', 'GradientNormHook']
