from .checkpoint_hook import WholeCheckpointHook
from .exact_resume import ExactResumeHook
from .finite import FiniteLossHook
from .fsdp import wrap_unshared_blocks
from .hooks import ExplainedVarianceHook, GradientNormHook
from .layer_decay import LayerDecayOptimWrapperConstructor
from .stop import StopOnSignalHook

__all__ = [
    'ExactResumeHook',
    'ExplainedVarianceHook',
    'FiniteLossHook',
    'GradientNormHook',
    'LayerDecayOptimWrapperConstructor',
    'StopOnSignalHook',
    'WholeCheckpointHook',
    'wrap_unshared_blocks',
]
