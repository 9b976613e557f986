from .broken_samples import BrokenSamplesHook
from .checkpoint_contents import CheckpointContentsHook
from .checkpoint_hook import WholeCheckpointHook
from .compile import CompileHook
from .exact_resume import ExactResumeHook
from .finite import FiniteLossHook
from .fsdp import SharedBlocksFSDPStrategy, wrap_unshared_blocks
from .hooks import ExplainedVarianceHook, GradientNormHook
from .layer_decay import LayerDecayOptimWrapperConstructor
from .reconstruction_hook import ReconstructionHook
from .stop import StopOnSignalHook

__all__ = [
    'BrokenSamplesHook',
    'CompileHook',
    'CheckpointContentsHook',
    'ExactResumeHook',
    'ExplainedVarianceHook',
    'FiniteLossHook',
    'GradientNormHook',
    'LayerDecayOptimWrapperConstructor',
    'ReconstructionHook',
    'SharedBlocksFSDPStrategy',
    'StopOnSignalHook',
    'WholeCheckpointHook',
    'wrap_unshared_blocks',
]
