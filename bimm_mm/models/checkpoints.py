"""Checkpoints of this toolkit: where the encoders are in them, and whether they fit a model."""

import os
import re
from pathlib import Path

from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel

from ..utils.checkpoint import read_checkpoint, save_whole, strip_prefix
from ..utils.commands import command
from ..utils.wrappers import unwrap_model
from ..version import __version__

BRANCHES = ('dorsal', 'ventral')
KNOWN = ('stage', 'epoch', 'iter', 'recipe', 'data', 'share', 'num_shared', 'versions')
PATCH_EMBEDDING = 'patch_embed.projection.weight'
CODE_EMBEDDING = 'patch_embed.codes.weight'


def find_encoders(state: dict[str, Tensor]) -> dict[str, str]:
    """Find the encoders in a state dict: their prefixes, and 'image', 'video' or 'code' for each.

    Args:
        state: Of a pretrainer ('dorsal.backbone.', ...), a finetuned model ('backbone.') or an
            encoder alone ('').
    """
    kinds = {2: 'code', 4: 'image', 5: 'video'}
    return {
        key.removesuffix(end): kinds.get(value.dim(), 'image')
        for end in (PATCH_EMBEDDING, CODE_EMBEDDING)
        for key, value in state.items()
        if key.endswith(end)
    }


def find_encoder(state: dict[str, Tensor], branch: str | None = None) -> str | None:
    """Find the prefix of one encoder in a state dict; None where it is not there.

    Args:
        state: As :func:`find_encoders`.
        branch: The branch to take from a pretrainer with branches. A finetuned model's or a
            lone encoder will do as well, and so will a pretrainer's without branches.
    """
    prefixes = (*((f'{branch}.backbone.',) if branch else ()), 'backbone.', '')
    found = find_encoders(state)
    return next((prefix for prefix in prefixes if prefix in found), None)


def describe_encoders(state: dict[str, Tensor]) -> str:
    """Say in words which encoders a state dict holds, and under which prefixes."""
    found = find_encoders(state)
    if not found:
        return f'no BimmViT (its first keys are {", ".join(list(state)[:3]) or "none"})'
    articles = dict(image='an image', video='a video', code='a code')
    return ' and '.join(
        f"{articles[kind]} encoder with prefix='{prefix}'" for prefix, kind in found.items()
    )


def forget_initialization(node: object) -> None:
    """Take out of a model's config what it starts training from, in place: a test needs none."""
    if isinstance(node, dict):
        if (node.get('init_cfg') or {}) and 'checkpoint' in node['init_cfg']:
            node['init_cfg'] = None
        for key in ('init_from', 'init_dorsal_from'):
            if node.get(key):
                node[key] = None
        for value in node.values():
            forget_initialization(value)
    elif isinstance(node, list | tuple):
        for value in node:
            forget_initialization(value)


def check_fit(model: nn.Module, state: dict[str, Tensor], name: str | os.PathLike) -> None:
    """Check that a checkpoint gives a value to every weight of a model that is to be tested.

    mmengine only logs what does not fit, and goes on with random weights.

    Args:
        model: What will be tested.
        state: The ``state_dict`` of the checkpoint; what it has besides is left aside.
        name: Of the checkpoint, for the message.

    Raises:
        ValueError: A parameter is missing, or has another shape, as that of a head for another
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
        # of a config without a name of its own, mmengine writes one with the time for its name
        files = sorted(
            Path(name).absolute().parent.glob('*.py'), key=lambda f: (f.stem[0].isdigit(), f)
        )
        beside = [file for file in files if 'model = dict(' in file.read_text(errors='ignore')]
        config = f'\nbeside it lies the config {os.path.relpath(beside[0])}' if beside else ''
        raise ValueError(
            f'checkpoint {name} does not fit the model (is it of another architecture or number '
            f'of classes, or an encoder without a head?):\n  {shown}{more}{config}'
        )


def check_decoders(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Check that decoders of a checkpoint that a training starts from are those of the model.

    mmengine would leave out what does not fit, and train decoders of random weights. Decoders that
    only one of the two has are left aside.

    Args:
        model: What will be trained, also where it is distributed.
        state: The ``state_dict`` of the checkpoint.

    Raises:
        ValueError: A decoder of the same place has other sizes.
    """
    places = re.compile(r'(.*\bneck\.decoders\.\d+\.)')
    inner = unwrap_model(model)
    buffers = dict(inner.named_buffers())  # positions, which are made for each grid
    parameters = dict(inner.named_parameters())
    if any(isinstance(module, FullyShardedDataParallel) for module in model.modules()):
        parameters = {}  # its parameters have the shapes of their shards
    ours = {k: tuple(v.shape) for k, v in parameters.items() if places.match(k)}
    theirs = {k: tuple(v.shape) for k, v in state.items() if places.match(k) and k not in buffers}
    both = {places.match(k)[1] for k in ours} & {places.match(k)[1] for k in theirs}
    keys = [key for key in {**ours, **theirs} if places.match(key)[1] in both]
    wrong = [key for key in keys if ours.get(key) != theirs.get(key)]
    if wrong:
        key = wrong[0]
        tool = command('import', 'model_converters/import_checkpoint.py')
        raise ValueError(
            f'the checkpoint has other decoders: {key} is {theirs.get(key, "missing")} in it and '
            f'{ours.get(key, "missing")} in the model, and {len(wrong) - 1} more differ. Take the '
            f'sizes that it was trained with ({tool} --config-out writes them for imported '
            'weights), or an encoder alone'
        )


def load_encoder(encoder: nn.Module, path: str | os.PathLike, branch: str = 'dorsal') -> None:
    """Load an encoder from a pretraining checkpoint, a finetuned model or an exported encoder.

    Args:
        encoder: :class:`BimmViT`; its positions may be of another size.
        path: The checkpoint.
        branch: The one to take from a pretraining checkpoint.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds no encoder, or one that does not fit.
    """
    state = read_checkpoint(path)['state_dict']
    prefix = find_encoder(state, branch)
    if prefix is None:
        raise ValueError(f'{path} holds no {branch} encoder')
    state = strip_prefix(state, prefix)
    check_fit(encoder, state, path)
    encoder.load_state_dict(state, strict=False)


def export_branch(source: str | os.PathLike, target: str | os.PathLike, branch: str) -> int:
    """Write the encoder of one branch of a pretraining checkpoint into a file of its own.

    Keys are those of :class:`BimmViT`, with no prefix, so that
    ``backbone=dict(type='BimmViT', ..., init_cfg=dict(type='Pretrained', checkpoint=target))``
    loads all of them. ``meta`` says the toolkit's version, the stage ('joint', or the branch that
    was pretrained alone), the branch, and the epoch and iteration where the checkpoint knows them.

    Args:
        source: Checkpoint of a :class:`SingleBranchPretrainer` or :class:`DualBranchPretrainer`.
        target: File to write, whole or not at all; one that is there is replaced.
        branch: 'dorsal' or 'ventral'.

    Returns:
        Number of tensors written.

    Raises:
        FileNotFoundError: There is no ``source``.
        ValueError: It is not a pretraining checkpoint, or lacks the branch.
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
        source: The checkpoint.
        branch: 'dorsal' or 'ventral'.
        alone: Whether a finetuned model or an encoder alone will do.

    Returns:
        The weights, with :class:`BimmViT`'s keys; and, as far as the checkpoint knows them, what
        :class:`CheckpointContentsHook` wrote of the run, ``epoch`` and ``iter``.

    Raises:
        FileNotFoundError: There is no ``source``.
        ValueError: It is not such a checkpoint, or lacks the branch.
    """
    checkpoint = read_checkpoint(source)
    state, meta = checkpoint['state_dict'], checkpoint.get('meta') or {}
    known = {key: meta[key] for key in KNOWN if key in meta}
    if branch in (meta.get('backbones') or {}):
        known['backbones'] = {branch: meta['backbones'][branch]}
    there = [name for name in BRANCHES if any(k.startswith(f'{name}.backbone.') for k in state)]
    if branch in there:
        known['stage'] = 'joint' if len(there) == 2 else branch
        return strip_prefix(state, f'{branch}.backbone.'), known
    if there:
        raise ValueError(f"branch='{branch}': {source} has only {' and '.join(there)}")
    prefix = find_encoder(state)
    pretrained = prefix == 'backbone.' and any(key.startswith('neck.') for key in state)
    if (alone or pretrained) and prefix is not None:
        own = 'dorsal' if find_encoders(state)[prefix] == 'video' else 'ventral'
        if branch != own:
            raise ValueError(f"branch='{branch}': {source} has only a {own} encoder")
        return strip_prefix(state, prefix), known
    keys = ', '.join(list(state)[:3])
    raise ValueError(
        f'{source} is not a pretraining checkpoint: it has no keys that start with '
        f'{" or ".join(f"{name}.backbone." for name in BRANCHES)} (its first are: {keys})'
    )
