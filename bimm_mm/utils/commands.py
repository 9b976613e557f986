"""How the tools are called from where a command was given."""

import os
import sys
from pathlib import Path


def command(name: str, tool: str) -> str:
    """Return what to type for a tool: ``bimm curves``, or ``python tools/.../plot_logs.py``.

    Args:
        name: The tool as a command of ``bimm``.
        tool: Its file, relative to the folder of the tools.
    """
    called = sys.argv[0]
    if called.startswith('bimm ') or Path(called).name == 'bimm':
        return f'bimm {name}'
    folder = next((p for p in Path(called).absolute().parents if p.name == 'tools'), None)
    # .mim is the copy in an installed package
    if folder is None or folder.parent.name == '.mim' or not (folder / tool).is_file():
        return f'bimm {name}'
    path = quoted(os.path.relpath(folder / tool))
    return path if tool.endswith('.sh') else f'python {path}'


def how_to_import() -> str:
    """The end of a message on a checkpoint without weights of this toolkit."""
    tool = command('import', 'model_converters/import_checkpoint.py')
    return f'. Files of MAE, VideoMAE, timm or transformers are converted by: {tool} FILE NEW.pth'


def quoted(path: str | os.PathLike) -> str:
    """Return a path as a shell needs it, relative to the current folder where that is shorter."""
    text = os.fspath(path)
    relative = os.path.relpath(text)
    text = relative if len(relative) < len(text) else text
    plain = all(char.isalnum() or char in '/._-+=:,@%' for char in text)
    return text if plain else "'" + text.replace("'", "'\\''") + "'"
