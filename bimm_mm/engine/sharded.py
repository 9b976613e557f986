"""Tensors that are divided among processes, and checkpoints of which each writes a part."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from mmengine.dist import barrier, is_main_process
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from ..utils.checkpoint import OTHERS, read_checkpoint


def whole(x: Tensor) -> Tensor:
    """Return a tensor with all its parts; all processes must call it."""
    return x.full_tensor() if isinstance(x, DTensor) else x


def divide(value: object, like: Tensor) -> object:
    """Divide a whole tensor as ``like`` is, if it has its shape; else return it."""
    divided = isinstance(like, DTensor) and isinstance(value, Tensor)
    if not divided or isinstance(value, DTensor) or value.shape != like.shape:
        return value
    return distribute_tensor(value.to(like.dtype), like.device_mesh, like.placements)


def to_first_process(state: object) -> object:
    """Gather a nested structure: whole tensors on the CPU of the first process, none elsewhere.

    One after the other, so that one at a time is whole on the device. Tensors that are the same
    under several names stay so.
    """
    gathered: dict[int, Tensor] = {}
    is_main = is_main_process()

    def gather(value: object) -> object:
        if isinstance(value, DTensor):
            key = value.to_local().data_ptr() if value.to_local().numel() else id(value)
            if key not in gathered:
                full = value.full_tensor()
                gathered[key] = full.cpu() if is_main else full.new_empty(0, device='cpu')
            return gathered[key]
        if isinstance(value, Mapping):
            return type(value)((key, gather(part)) for key, part in value.items())
        if type(value) in (list, tuple):
            return type(value)(gather(part) for part in value)
        return value

    return gather(state)


def save_parts(folder: str | Path, checkpoint: dict) -> None:
    """Write a checkpoint into a folder: divided tensors by torch.distributed.checkpoint.

    Args:
        folder: Is created.
        checkpoint: With ``state_dict`` and perhaps ``optimizer``, whose tensors are divided; the
            rest is written by the first process.
    """
    folder = Path(folder)
    if is_main_process():
        folder.mkdir(parents=True, exist_ok=True)
    barrier()
    tensors = {f'state_dict.{name}': value for name, value in checkpoint['state_dict'].items()}
    others = checkpoint | dict(state_dict={})
    if 'optimizer' in checkpoint:
        state = checkpoint['optimizer']['state']
        others['optimizer'] = checkpoint['optimizer'] | dict(state={})
        for index, entries in state.items():
            others['optimizer']['state'][index] = rest = {}
            for name, value in entries.items():
                if isinstance(value, Tensor):
                    tensors[f'optimizer.{index}.{name}'] = value
                else:
                    rest[name] = value
    dcp.save(tensors, checkpoint_id=folder)
    if is_main_process():
        torch.save(others, folder / OTHERS)


def load_parts(
    folder: str | Path, state_dict: Mapping[str, Tensor], parameters: Sequence[nn.Parameter]
) -> dict:
    """Read a checkpoint of :func:`save_parts`, divided anew as these processes need it.

    Args:
        folder: That of the checkpoint.
        state_dict: Of the model; its tensors are filled.
        parameters: In the order of the optimizer's state.

    Returns:
        The checkpoint, with ``state_dict`` and, if it was saved, ``optimizer``.
    """
    loaded = read_checkpoint(Path(folder) / OTHERS)
    kept = dcp.FileSystemReader(folder).read_metadata().state_dict_metadata
    targets: dict[str, Tensor] = {}
    for key, about in kept.items():
        kind, _, name = key.partition('.')
        if kind == 'state_dict' and name in state_dict:
            targets[key] = state_dict[name]
        elif kind == 'optimizer' and parameters:
            parameter = parameters[int(name.partition('.')[0])]
            if about.size == parameter.shape:
                targets[key] = torch.zeros_like(parameter, requires_grad=False)
            else:
                targets[key] = torch.zeros(about.size, dtype=about.properties.dtype)
    dcp.load(targets, checkpoint_id=folder)
    loaded['state_dict'] = state_dict
    for key, value in targets.items():
        kind, _, name = key.partition('.')
        if kind == 'optimizer':
            index, _, entry = name.partition('.')
            loaded['optimizer']['state'][int(index)][entry] = value
    return loaded
