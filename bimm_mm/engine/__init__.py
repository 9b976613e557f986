"""What mmengine's runner calls: hooks, optimizer constructors and strategies."""

from .hooks import *  # noqa: F403
from .hooks import __all__ as _hooks
from .optimizers import CpuAmpOptimWrapper, LayerDecayOptimWrapperConstructor
from .strategies import SharedBlocksFSDPStrategy, wrap_unshared_blocks

__all__ = [
    *_hooks,
    'CpuAmpOptimWrapper',
    'LayerDecayOptimWrapperConstructor',
    'SharedBlocksFSDPStrategy',
    'wrap_unshared_blocks',
]
