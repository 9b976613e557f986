from .clip import ClipGuide, ClipTextEncoder

__all__ = ['ClipGuide', 'ClipTextEncoder']
