from .clip import ClipGuide, ClipTextEncoder
from .flow import DisFlow, RaftFlow

__all__ = ['ClipGuide', 'ClipTextEncoder', 'DisFlow', 'RaftFlow']
