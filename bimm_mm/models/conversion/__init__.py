from .exporting import Exported, complete_videomae, describe, to_huggingface, to_timm
from .files import (
    FORMATS,
    convert_source,
    export_folder,
    export_vimpac,
    import_checkpoint,
)
from .importing import Imported, convert, recognize
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
    'convert_source',
    'describe',
    'export_folder',
    'export_vimpac',
    'import_checkpoint',
    'recognize',
    'to_huggingface',
    'to_timm',
]
