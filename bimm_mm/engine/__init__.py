"""What mmengine's runner calls: hooks, the lines of the log, optimizers and strategies."""

from .hooks import *  # noqa: F403
from .hooks import __all__ as _hooks
from .log_processor import ShortLogProcessor
from .optimizers import CpuAmpOptimWrapper, LayerDecayOptimWrapperConstructor
from .strategies import FullyShardStrategy, SharedBlocksFSDPStrategy, wrap_unshared_blocks

__all__ = [
    *_hooks,
    'CpuAmpOptimWrapper',
    'FullyShardStrategy',
    'LayerDecayOptimWrapperConstructor',
    'SharedBlocksFSDPStrategy',
    'ShortLogProcessor',
    'wrap_unshared_blocks',
]
