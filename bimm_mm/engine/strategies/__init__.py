"""Strategies: how a model is spread over devices."""

from .fsdp import SharedBlocksFSDPStrategy, wrap_unshared_blocks

__all__ = ['SharedBlocksFSDPStrategy', 'wrap_unshared_blocks']
