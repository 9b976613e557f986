"""Checkpoint files: read without running code, held against a model, cut to one encoder."""

import os
import pickle
import zipfile
from pathlib import Path

import torch
from torch import Tensor, nn

from ..utils.files import write_whole
from ..version import __version__

BRANCHES = ('dorsal', 'ventral')


def read_checkpoint(path: str | os.PathLike) -> dict:
    """Read a checkpoint on the CPU; what it holds besides tensors and numbers is refused.

    Args:
        path: a local file, as ``torch.save`` or a Runner wrote it.

    Returns:
        dict: what the file holds, with a ``state_dict`` in it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no checkpoint, or could run code when it is read (pickled objects).
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'no checkpoint {os.path.abspath(path)}')
    try:
        # a file of today is mapped, not read: it can be looked into before it is loaded
        checkpoint = torch.load(
            path, map_location='cpu', weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except pickle.UnpicklingError as error:
        raise ValueError(
            f'checkpoint {path} was not loaded: it is broken, or holds objects other than tensors '
            f'and numbers, which could run code ({_first_line(error)})'
        ) from error
    except Exception as error:  # whatever the unpickler does with bytes that are no pickle
        raise ValueError(f'{path} is no checkpoint, or broken: {_first_line(error)}') from error
    if not isinstance(checkpoint, dict):
        raise ValueError(f'{path} holds a {type(checkpoint).__name__}, and no state_dict')
    if not isinstance(checkpoint.get('state_dict'), dict):
        checkpoint = dict(state_dict=checkpoint)
    state = checkpoint['state_dict']
    if state and all(str(key).startswith('module.') for key in state):  # of a strategy with DDP
        checkpoint['state_dict'] = cut(state, 'module.')
    return checkpoint


def forget_initialisation(node: object) -> None:
    """Take out of a model's config what it starts training from, in place: a test needs none."""
    if isinstance(node, dict):
        if (node.get('init_cfg') or {}) and 'checkpoint' in node['init_cfg']:
            node['init_cfg'] = None
        for key in ('init_from', 'init_dorsal_from'):
            if node.get(key):
                node[key] = None
        for value in node.values():
            forget_initialisation(value)
    elif isinstance(node, list | tuple):
        for value in node:
            forget_initialisation(value)


def check_fit(model: nn.Module, state: dict[str, Tensor], name: str | os.PathLike) -> None:
    """Check that a checkpoint gives a value to every weight of a model that is to be tested.

    mmengine only logs what does not fit, and goes on with random weights.

    Args:
        model: what will be tested.
        state: the ``state_dict`` of the checkpoint; what it has besides is left aside.
        name: of the checkpoint, for the message.

    Raises:
        ValueError: a parameter is missing, or has another shape, as that of a head for another
            number of classes.
    """
    problems = [
        f'{key} is not in it'
        if key not in state
        else f'{key} has shape {tuple(state[key].shape)}, the model needs {tuple(value.shape)}'
        for key, value in model.named_parameters()
        if key not in state or state[key].shape != value.shape
    ]
    if problems:
        shown = '\n  '.join(problems[:8])
        more = f'\n  and {len(problems) - 8} more' if len(problems) > 8 else ''
        raise ValueError(
            f'checkpoint {name} does not fit the model (is it of another architecture or number '
            f'of classes, or an encoder without a head?):\n  {shown}{more}'
        )


def load_encoder(encoder: nn.Module, path: str | os.PathLike, branch: str = 'dorsal') -> None:
    """Load an encoder from a pretraining checkpoint, a finetuned model or an exported encoder.

    Args:
        encoder: :class:`BimmViT`; its positions may be of another size.
        path: the checkpoint.
        branch: the one to take from a pretraining checkpoint.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no encoder, or one that does not fit.
    """
    state = read_checkpoint(path)['state_dict']
    prefixes = (f'{branch}.backbone.', 'backbone.', '')
    prefix = next((p for p in prefixes if f'{p}patch_embed.projection.weight' in state), None)
    if prefix is None:
        raise ValueError(f'{path} holds no {branch} encoder')
    state = cut(state, prefix)
    check_fit(encoder, state, path)
    encoder.load_state_dict(state, strict=False)


def export_branch(source: str | os.PathLike, target: str | os.PathLike, branch: str) -> int:
    """Write the encoder of one branch of a pretraining checkpoint into a file of its own.

    Keys are those of :class:`BimmViT`, with no prefix, so that
    ``backbone=dict(type='BimmViT', ..., init_cfg=dict(type='Pretrained', checkpoint=target))``
    loads all of them. ``meta`` says the toolkit's version, the stage ('joint', or the branch that
    was pretrained alone), the branch, and the epoch and iteration where the checkpoint knows them.

    Args:
        source: checkpoint of a :class:`SingleBranchPretrainer` or :class:`DualBranchPretrainer`.
        target: file to write, whole or not at all; one that is there is replaced.
        branch: 'dorsal' or 'ventral'.

    Returns:
        int: number of tensors written.

    Raises:
        FileNotFoundError: there is no ``source``.
        ValueError: it is no pretraining checkpoint, or lacks the branch.
        OSError: ``target`` cannot be written.
    """
    encoder, meta = read_branch(source, branch)
    # clones: a view would take the storage that it is part of along
    state = {key: value.clone() for key, value in encoder.items()}
    meta = dict(meta, bimm_mm_version=__version__, branch=branch, source=Path(source).name)
    save_whole(dict(meta=meta, state_dict=state), target)
    return len(state)


def read_branch(
    source: str | os.PathLike, branch: str, alone: bool = False
) -> tuple[dict[str, Tensor], dict]:
    """The encoder of one branch of a pretraining checkpoint, and what is known about it.

    Args:
        source: the checkpoint.
        branch: 'dorsal' or 'ventral'.
        alone: whether a finetuned model or an encoder alone will do.

    Returns:
        tuple: the weights, with :class:`BimmViT`'s keys; and ``stage``, ``epoch``, ``iter`` and
        ``backbones``, the config of the encoder by branch, as far as the checkpoint knows them.

    Raises:
        FileNotFoundError: there is no ``source``.
        ValueError: it is no such checkpoint, or lacks the branch.
    """
    checkpoint = read_checkpoint(source)
    state, meta = checkpoint['state_dict'], checkpoint.get('meta') or {}
    known = {key: meta[key] for key in ('stage', 'epoch', 'iter') if key in meta}
    if branch in (meta.get('backbones') or {}):
        known['backbones'] = {branch: meta['backbones'][branch]}
    there = [name for name in BRANCHES if any(k.startswith(f'{name}.backbone.') for k in state)]
    if branch in there:
        known['stage'] = 'joint' if len(there) == 2 else branch
        return cut(state, f'{branch}.backbone.'), known
    if there:
        raise ValueError(f"branch='{branch}': {source} has only {' and '.join(there)}")
    projection = 'patch_embed.projection.weight'
    prefix = next((p for p in ('backbone.', '') if p + projection in state), None)
    if alone and prefix is not None:
        own = 'dorsal' if state[prefix + projection].dim() == 5 else 'ventral'
        if branch != own:
            raise ValueError(f"branch='{branch}': {source} has only a {own} encoder")
        return cut(state, prefix), known
    keys = ', '.join(list(state)[:3])
    raise ValueError(
        f'{source} is no pretraining checkpoint: it has no keys that start with '
        f'{" or ".join(f"{name}.backbone." for name in BRANCHES)} (its first are: {keys})'
    )


def cut(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries whose keys start with ``prefix``, without it."""
    return {key.removeprefix(prefix): v for key, v in state.items() if key.startswith(prefix)}


def save_whole(content: dict, path: str | os.PathLike) -> None:
    """``torch.save`` into a temporary file next to ``path``, which takes its name at the end.

    Raises:
        WriteError: the folder is missing, may not be written to, or the disk is full; ``path`` is
            as it was before.
    """
    write_whole(path, lambda file: torch.save(content, file))


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if 'Unsupported' in line or 'GLOBAL' in line]
    return (named or lines or [type(error).__name__])[0]
