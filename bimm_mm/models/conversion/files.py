"""Checkpoints of other libraries as files and folders."""

import json
import os
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from ...utils.files import check_writable, write_text, write_whole
from ...version import __version__
from ..checkpoints import read_branch, read_checkpoint, save_whole
from .exporting import Exported, describe, to_huggingface, to_timm
from .importing import Imported, convert, recognise
from .positions import Settings

FORMATS = dict(timm=to_timm, huggingface=to_huggingface)
# where the weights are in a checkpoint of a training run
WRAPPERS = ('state_dict', 'model', 'module', 'model_state', 'model_state_dict')


def import_checkpoint(
    source: str | os.PathLike,
    target: str | os.PathLike,
    kind: str | None = None,
    settings: Settings | None = None,
) -> Imported:
    """Convert a checkpoint of another library into one of this toolkit.

    Args:
        source: a file of ``torch.save``, a .safetensors file, or a folder with one and its
            config.json, as transformers and timm save.
        target: file to write, whole or not at all; one that is there is replaced.
        kind: one of ``KINDS``; found by the keys when left out.
        settings: what the file does not tell. Goes before what a config.json says.

    Returns:
        Imported: what was written, and what was left out.

    Raises:
        FileNotFoundError: there is no ``source``.
        ValueError: it is no checkpoint, would run code, is of no known kind, or does not fit.
        OSError: ``target`` cannot be written.
    """
    state, others, config = read_weights(source)
    kind = kind or recognise(state, str(source))
    known = _read_config(config, source)
    for name, value in vars(settings or Settings()).items():
        if value is not None:
            known = replace(known, **{name: value})
    result = convert(state, kind, known)
    result.dropped |= dict.fromkeys(others, 'no weights of the model')
    meta = dict(
        bimm_mm_version=__version__,
        stage=result.branch,
        branch=result.branch,
        source=Path(source).name,
        imported_from=kind,
        backbones={result.branch: result.backbone},
    )
    state = {key: value.detach().clone().contiguous() for key, value in result.state.items()}
    save_whole(dict(meta=meta, state_dict=state), target)
    return result


def export_folder(
    source: str | os.PathLike,
    folder: str | os.PathLike,
    branch: str,
    form: str,
    num_heads: int | None = None,
) -> Exported:
    """Write an encoder as timm or transformers read it: model.safetensors and config.json.

    Args:
        source: a pretraining checkpoint, or an encoder.
        folder: to write; made where it is missing.
        branch: 'ventral' for timm, 'dorsal' for transformers.
        form: 'timm' or 'huggingface'.
        num_heads: attention heads, where the checkpoint's metadata do not tell them.

    Raises:
        FileNotFoundError: there is no ``source``.
        ValueError: it holds no such encoder, or one that the library cannot express.
        OSError: the folder cannot be written.
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


def read_weights(source: str | os.PathLike) -> tuple[dict[str, Tensor], list[str], dict]:
    """The weights in a file or folder, without running code.

    Returns:
        tuple: the weights, the keys of what else is in the file, and the config.json next to it.

    Raises:
        FileNotFoundError: there is no such file, or no weights in the folder.
        ValueError: it is no checkpoint, holds no tensors, or could run code when it is read.
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
        if file.suffix == '.safetensors':
            state |= _read_safetensors(file)
        else:
            weights, rest = _read_pickle(file)
            state |= weights
            others += rest
    if all(key.startswith('module.') for key in state):  # of DistributedDataParallel
        state = {key.removeprefix('module.'): value for key, value in state.items()}
    return state, others, config


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise ValueError(f'{path} needs safetensors: pip install safetensors') from error
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f'{path} is no safetensors file, or broken: {error}') from error


def _read_pickle(path: Path) -> tuple[dict[str, Tensor], list[str]]:
    """The weights in a file of ``torch.save``, and the keys of what is beside them."""
    content, others = read_checkpoint(path), []
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


def _read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_text()) if path.is_file() else {}
    except ValueError as error:
        raise ValueError(f'{path} is no JSON: {error}') from error


def _read_config(config: dict, source: str | os.PathLike) -> Settings:
    """What a config.json of transformers or timm says."""
    activation = config.get('hidden_act', 'gelu')
    if activation != 'gelu':
        raise ValueError(f"{source}: hidden_act='{activation}' in its config.json, must be 'gelu'")
    args = config.get('model_args') or {}
    size = config.get('image_size', args.get('img_size'))
    return Settings(
        num_frames=config.get('num_frames'),
        img_size=(size, size) if isinstance(size, int) else tuple(size) if size else None,
        num_heads=config.get('num_attention_heads', args.get('num_heads')),
        decoder_num_heads=config.get('decoder_num_attention_heads'),
        norm_pixels=config.get('norm_pix_loss'),
        norm_eps=config.get('layer_norm_eps'),
    )


def _write_json(path: Path, content: dict) -> None:
    write_text(path, json.dumps(content, indent=2) + '\n')
