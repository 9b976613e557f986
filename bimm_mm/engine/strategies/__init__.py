"""Strategies: how a model is spread over devices."""

from .fsdp import SharedBlocksFSDPStrategy, wrap_unshared_blocks
from .fsdp2 import FullyShardStrategy

__all__ = ['FullyShardStrategy', 'SharedBlocksFSDPStrategy', 'wrap_unshared_blocks']
