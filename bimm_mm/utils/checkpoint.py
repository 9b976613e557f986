"""Reading checkpoints without running code, and writing them whole.

One reader for all of them: files of ``torch.save``, of a Runner, .safetensors files, folders of
transformers and timm, and what mmengine fetches from elsewhere.
"""

import json
import os
import pickle
import zipfile
from pathlib import Path

import torch
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor

from .files import write_whole

OTHERS = 'others.pth'  # what is not divided, in the folder of a sharded checkpoint
# where the weights are in a checkpoint of a training run
WRAPPERS = ('state_dict', 'model', 'module', 'model_state', 'model_state_dict')


def read_checkpoint(path: str | os.PathLike) -> dict:
    """Read a checkpoint on the CPU; anything but tensors and plain values is refused.

    Args:
        path: A local file that ``torch.save`` or a Runner wrote, a .safetensors file, or the folder
            of a sharded checkpoint.

    Returns:
        What the file holds, with a ``state_dict`` in it.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not a checkpoint, or could run code when it is read (pickled objects).
    """
    if (Path(path) / OTHERS).is_file():
        return _read_sharded(Path(path))
    if not Path(path).is_file():
        raise FileNotFoundError(f'no checkpoint {os.path.abspath(path)}')
    if Path(path).suffix == '.safetensors':
        return dict(state_dict=_read_safetensors(Path(path)))
    try:
        # today's format is mapped, not read: one can look into a file before loading it
        checkpoint = torch.load(
            path, map_location='cpu', weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except pickle.UnpicklingError as error:
        raise ValueError(
            f'checkpoint {path} was not loaded: it is broken, or holds objects other than tensors '
            f'and numbers, which could run code ({_first_line(error)})'
        ) from error
    except Exception as error:  # whatever the unpickler does with bytes that are not a pickle
        raise ValueError(f'{path} is not a checkpoint, or broken: {_first_line(error)}') from error
    if not isinstance(checkpoint, dict):
        raise ValueError(f'{path} holds a {type(checkpoint).__name__} and not a state_dict')
    if not isinstance(checkpoint.get('state_dict'), dict):
        checkpoint = dict(state_dict=checkpoint)
    checkpoint['state_dict'] = _strip_module(checkpoint['state_dict'])
    return checkpoint


def _read_sharded(folder: Path) -> dict:
    """Read the folder of a checkpoint of which each process wrote a part: whole tensors."""
    import torch.distributed.checkpoint as dcp

    checkpoint = read_checkpoint(folder / OTHERS)
    kept = dcp.FileSystemReader(folder).read_metadata().state_dict_metadata
    tensors = {k: torch.empty(v.size, dtype=v.properties.dtype) for k, v in kept.items()}
    dcp.load(tensors, checkpoint_id=folder, no_dist=True)
    for key, value in tensors.items():
        kind, _, name = key.partition('.')
        if kind == 'optimizer':
            index, _, entry = name.partition('.')
            checkpoint['optimizer']['state'][int(index)][entry] = value
        else:
            checkpoint['state_dict'][name] = value
    return checkpoint


def read_state(source: str | os.PathLike) -> dict[str, Tensor]:
    """Read the weights of a checkpoint on the CPU.

    Args:
        source: A local file, or what mmengine's CheckpointLoader fetches (https://, s3://, ...).

    Raises:
        FileNotFoundError, ValueError: As :func:`read_checkpoint`.
    """
    if '://' not in str(source):
        return read_checkpoint(source)['state_dict']
    checkpoint = CheckpointLoader.load_checkpoint(str(source), map_location='cpu')
    return _strip_module(checkpoint.get('state_dict', checkpoint))


def read_weights(source: str | os.PathLike) -> tuple[dict[str, Tensor], list[str], dict]:
    """Read the weights of any library's file or folder, without running code.

    Args:
        source: A file, or a folder with ``*.safetensors`` or ``pytorch_model*.bin``.

    Returns:
        The weights, the keys of what else is in the file, and the config.json next to it.

    Raises:
        FileNotFoundError: There is no such file, or there are no weights in the folder.
        ValueError: It is not a checkpoint, holds no tensors, or could run code when it is read.
    """
    path, config = Path(source), {}
    if path.is_dir():
        whole = path / 'model.safetensors'
        files = [whole] if whole.is_file() else sorted(path.glob('*.safetensors'))
        files = files or sorted(path.glob('pytorch_model*.bin'))
        if not files:
            raise FileNotFoundError(f'no *.safetensors or pytorch_model.bin in the folder {path}')
    elif path.is_file():
        files = [path]
    else:
        raise FileNotFoundError(f'no checkpoint {path.absolute()}')
    if path.is_dir() or path.suffix == '.safetensors':
        config = _read_json(files[0].with_name('config.json'))
    state, others = {}, []
    for file in files:
        weights, rest = _unwrap(read_checkpoint(file), file)
        state |= weights
        others += rest
    return _strip_module(state), others, config


def strip_prefix(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the entries whose keys start with ``prefix``, without it."""
    return {key.removeprefix(prefix): v for key, v in state.items() if key.startswith(prefix)}


def save_whole(content: dict, path: str | os.PathLike) -> None:
    """``torch.save`` into a temporary file next to ``path``, which takes its name at the end.

    Raises:
        WriteError: The folder is missing, may not be written to, or the disk is full; ``path`` is
            as it was before.
    """
    write_whole(path, lambda file: torch.save(content, file))


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise ValueError(f'{path} needs safetensors: pip install safetensors') from error
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f'{path} is not a safetensors file, or broken: {error}') from error


def _unwrap(content: dict, path: Path) -> tuple[dict[str, Tensor], list[str]]:
    """Return the weights inside a checkpoint, and the keys of what is beside them."""
    others = []
    while True:
        inside = next((key for key in WRAPPERS if isinstance(content.get(key), dict)), None)
        if inside is None:
            break
        others += [str(key) for key in content if key != inside]
        content = content[inside]
    state = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    if not state:
        raise ValueError(f'{path} holds no weights; its keys are {", ".join(map(str, content))}')
    return state, others + [str(key) for key in content if key not in state]


def _strip_module(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Undo the ``module.`` before every key that DistributedDataParallel leaves."""
    if state and all(str(key).startswith('module.') for key in state):
        return strip_prefix(state, 'module.')
    return state


def _read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_text()) if path.is_file() else {}
    except ValueError as error:
        raise ValueError(f'{path} is not valid JSON: {error}') from error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if 'Unsupported' in line or 'GLOBAL' in line]
    return (named or lines or [type(error).__name__])[0]
