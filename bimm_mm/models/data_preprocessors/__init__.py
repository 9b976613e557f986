from .clip_data_preprocessor import ClipDataPreprocessor
from .code_data_preprocessor import CodeDataPreprocessor

__all__ = [
    'ClipDataPreprocessor',
    'CodeDataPreprocessor',
]
