"""The import path that detection configs name; see :mod:`.hooks.float32_heads_hook`."""

from .hooks.float32_heads_hook import *  # noqa: F403
