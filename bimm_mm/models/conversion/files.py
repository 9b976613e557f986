"""Checkpoints of other libraries as files and folders."""

import json
import os
from dataclasses import replace
from pathlib import Path

from ...utils.checkpoint import read_checkpoint, read_weights, save_whole, strip_prefix
from ...utils.files import check_writable, write_text, write_whole
from ...version import __version__
from ..checkpoints import read_branch
from .exporting import Exported, describe, to_huggingface, to_timm
from .importing import Imported, convert, recognize
from .positions import Settings
from .vimpac import convert_vimpac, to_vimpac

FORMATS = dict(timm=to_timm, huggingface=to_huggingface)


def import_checkpoint(
    source: str | os.PathLike,
    target: str | os.PathLike,
    kind: str | None = None,
    settings: Settings | None = None,
) -> Imported:
    """Convert a checkpoint of another library into one of this toolkit.

    Args:
        source: A file of ``torch.save``, a .safetensors file, or a folder with one and its
            config.json, as transformers and timm save.
        target: File to write, whole or not at all; one that is there is replaced.
        kind: One of ``KINDS``; found by the keys when left out.
        settings: What the file does not tell. Goes before what a config.json says.

    Returns:
        What was written, and what was left out.

    Raises:
        FileNotFoundError: There is no ``source``.
        ValueError: It is not a checkpoint, would run code, is of no known kind, or does not fit.
        OSError: ``target`` cannot be written.
    """
    result = convert_source(source, kind, settings)
    meta = dict(
        bimm_mm_version=__version__,
        stage=result.branch,
        branch=result.branch,
        source=Path(source).name,
        imported_from=result.kind,
        backbones={result.branch: result.backbone},
    )
    state = {key: value.detach().clone().contiguous() for key, value in result.state.items()}
    save_whole(dict(meta=meta, state_dict=state), target)
    return result


def convert_source(
    source: str | os.PathLike, kind: str | None = None, settings: Settings | None = None
) -> Imported:
    """Convert a checkpoint of another library in memory.

    Args:
        source, kind, settings: As of :func:`import_checkpoint`.

    Raises:
        FileNotFoundError: There is no ``source``.
        ValueError: As of :func:`import_checkpoint`.
    """
    try:
        state, others, config = read_weights(source)
    except ValueError as error:
        if 'target_encoder' in str(error):
            raise ValueError(
                f'{source} is a checkpoint of V-JEPA (it holds a target_encoder), which is not one '
                'of the kinds that can be imported'
            ) from error
        raise
    if all(key.startswith('model.') for key in state):  # VideoMAE V2's releases on Hugging Face
        state = strip_prefix(state, 'model.')
    kind = kind or recognize(state, str(source))
    known = _read_config(config, source)
    for name, value in vars(settings or Settings()).items():
        if value is not None:
            known = replace(known, **{name: value})
    result = convert_vimpac(state) if kind == 'vimpac' else convert(state, kind, known)
    result.dropped |= dict.fromkeys(others, 'no weights of the model')
    return result


def export_vimpac(source: str | os.PathLike, target: str | os.PathLike) -> int:
    """Write a pretraining checkpoint, an encoder or a finetuned model of VIMPAC as published.

    Args:
        source: The checkpoint; its ``meta`` tells the config of the encoder.
        target: File to write, a state dict alone; one that is there is replaced.

    Returns:
        Number of tensors written.

    Raises:
        FileNotFoundError: There is no ``source``.
        ValueError: It holds no :class:`VimpacViT`, or does not tell its config.
        OSError: ``target`` cannot be written.
    """
    checkpoint = read_checkpoint(source)
    meta = checkpoint.get('meta') or {}
    backbone = (meta.get('backbones') or {}).get('dorsal', {})
    if not str(backbone.get('type', '')).endswith('VimpacViT'):
        raise ValueError(f'{source} does not say that it holds a VimpacViT, which vimpac needs')
    state = to_vimpac(checkpoint['state_dict'], backbone)
    # what is tied is stored once
    copies = {id(value): value.detach().clone() for value in state.values()}
    save_whole({key: copies[id(value)] for key, value in state.items()}, target)
    return len(state)


def export_folder(
    source: str | os.PathLike,
    folder: str | os.PathLike,
    branch: str,
    form: str,
    num_heads: int | None = None,
) -> Exported:
    """Write an encoder as timm or transformers read it: model.safetensors and config.json.

    Args:
        source: A pretraining checkpoint, or an encoder.
        folder: To write; made where it is missing.
        branch: 'ventral' for timm, 'dorsal' for transformers.
        form: 'timm' or 'huggingface'.
        num_heads: Attention heads, where the checkpoint's metadata do not tell them.

    Raises:
        FileNotFoundError: There is no ``source``.
        ValueError: It holds no such encoder, or one that the library cannot express.
        OSError: The folder cannot be written.
    """
    try:
        from safetensors.torch import save
    except ImportError as error:
        raise ValueError(f'{folder} needs safetensors: pip install safetensors') from error
    state, meta = read_branch(source, branch, alone=True)
    backbone = (meta.get('backbones') or {}).get(branch)
    exported = FORMATS[form](describe(state, backbone, num_heads))
    exported.config['bimm_mm'] = dict(
        exported.config.get('bimm_mm', {}), version=__version__, branch=branch
    )
    folder = Path(folder)
    check_writable(folder)
    tensors = {key: value.detach().clone().contiguous() for key, value in exported.tensors.items()}
    content = save(tensors, metadata=dict(format='pt'))
    write_whole(folder / 'model.safetensors', lambda file: file.write(content))
    _write_json(folder / 'config.json', exported.config)
    if exported.preprocessor:
        _write_json(folder / 'preprocessor_config.json', exported.preprocessor)
    return exported


def _read_config(config: dict, source: str | os.PathLike) -> Settings:
    """What a config.json of transformers or timm says."""
    activation = config.get('hidden_act', 'gelu')
    if activation != 'gelu':
        raise ValueError(f"{source}: hidden_act='{activation}' in its config.json, must be 'gelu'")
    # timm has them in model_args, VideoMAE V2 in model_config
    nested = (part for part in config.values() if isinstance(part, dict))
    args = next((part for part in nested if part.keys() & {'num_heads', 'img_size'}), {})
    size = config.get('image_size', args.get('img_size'))
    return Settings(
        num_frames=config.get('num_frames', args.get('num_frames')),
        img_size=(size, size) if isinstance(size, int) else tuple(size) if size else None,
        num_heads=config.get('num_attention_heads', args.get('num_heads')),
        decoder_num_heads=config.get('decoder_num_attention_heads'),
        norm_pixels=config.get('norm_pix_loss'),
        norm_eps=config.get('layer_norm_eps'),
    )


def _write_json(path: Path, content: dict) -> None:
    write_text(path, json.dumps(content, indent=2) + '\n')
