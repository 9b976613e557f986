from .fsdp import wrap_unshared_blocks
from .hooks import ExplainedVarianceHook, FiniteLossHook, GradientNormHook
from .layer_decay import LayerDecayOptimWrapperConstructor

__all__ = [
    'ExplainedVarianceHook',
    'FiniteLossHook',
    'GradientNormHook',
    'LayerDecayOptimWrapperConstructor',
    'wrap_unshared_blocks',
]
