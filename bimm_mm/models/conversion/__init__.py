from .exporting import Exported, complete_videomae, describe, to_huggingface, to_timm
from .files import FORMATS, export_folder, import_checkpoint, read_weights
from .importing import Imported, convert, recognise
from .layouts import KINDS
from .positions import Settings

__all__ = [
    'FORMATS',
    'KINDS',
    'Exported',
    'Imported',
    'Settings',
    'complete_videomae',
    'convert',
    'describe',
    'export_folder',
    'import_checkpoint',
    'read_weights',
    'recognise',
    'to_huggingface',
    'to_timm',
]
