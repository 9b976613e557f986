"""Encoders in folders with safetensors and a model card, as the Hugging Face hub keeps them.

    encoder = BimmViT.from_pretrained('name/of-a-repository')    # or a folder
    encoder.save_pretrained('folder')
    encoder.push_to_hub('name/of-a-repository')

A folder has ``config.json`` (the class, its arguments and what is known of the run),
``model.safetensors`` and ``README.md``, the model card. To read it, mmengine, mmcv-lite and
safetensors suffice; what is not on this machine needs huggingface_hub.
"""

import inspect
import json
import os
import tempfile
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from ..utils.checkpoint import read_weights
from ..utils.files import check_writable, write_text, write_whole
from ..version import __version__
from .checkpoints import read_branch
from .model_card import model_card

CONFIG, WEIGHTS, CARD = 'config.json', 'model.safetensors', 'README.md'
Encoder = TypeVar('Encoder', bound='HubMixin')


class HubMixin:
    """``from_pretrained``, ``save_pretrained`` and ``push_to_hub`` for an encoder.

    Attributes:
        arguments: What the encoder was built with.
        run: What is known of its training: see :func:`bimm_mm.models.model_card.model_card`.
    """

    arguments: dict[str, Any] | None = None
    run: dict[str, Any] | None = None

    def __new__(cls, *args, **kwargs):
        """Note the arguments; a copy gets them with the other attributes."""
        encoder = super().__new__(cls)
        try:
            bound = inspect.signature(cls.__init__).bind(encoder, *args, **kwargs)
        except TypeError:  # __init__ will say it, unless this is a copy
            return encoder
        bound.apply_defaults()  # a later version may have others
        arguments = dict(list(bound.arguments.items())[1:])
        arguments.pop('init_cfg', None)
        encoder.__dict__['arguments'] = arguments
        return encoder

    @classmethod
    def from_pretrained(
        cls: type[Encoder],
        source: str | os.PathLike,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | os.PathLike | None = None,
        local_files_only: bool = False,
        **settings,
    ) -> Encoder:
        """Build an encoder from a folder or a repository of the Hugging Face hub.

        Args:
            source: The folder, or the id of the repository.
            revision: Branch, tag or commit of the repository.
            token: For a private repository; that of ``hf auth login`` by default.
            cache_dir: Where downloads are kept.
            local_files_only: Whether to take only what was downloaded before.
            **settings: Arguments that go before the stored ones, as ``out_type='avg_featmap'``.

        Returns:
            The encoder, in evaluation mode.

        Raises:
            FileNotFoundError: There is no such folder, or no such repository can be had.
            ImportError: ``source`` is not a folder, and huggingface_hub is not installed.
            ValueError: It holds another class, weights that do not fit, or an unknown argument.
        """
        options = dict(revision=revision, token=token, cache_dir=cache_dir)
        folder = fetch(source, local_files_only=local_files_only, **options)
        state, config = read_pretrained(folder)
        if config['type'] != cls.__name__:
            raise ValueError(
                f'{source} holds a {config["type"]}, not a {cls.__name__}: use '
                f'{config["type"]}.from_pretrained, or bimm_mm.apis.load_encoder for any class'
            )
        known = inspect.signature(cls).parameters
        unknown = sorted((settings.keys() | config['arguments'].keys()) - known.keys())
        if unknown:
            raise ValueError(f'{cls.__name__} has no argument {", ".join(unknown)}')
        encoder = cls(**config['arguments'] | settings)
        try:
            encoder.load_state_dict(state)
        except (RuntimeError, ValueError) as error:
            raise ValueError(f'{source} does not fit {cls.__name__}: {error}') from error
        encoder.run = config.get('run')
        return encoder.eval()

    def save_pretrained(
        self, folder: str | os.PathLike, license: str | None = None, figures: dict | None = None
    ) -> None:
        """Write the encoder and its model card into a folder.

        Args:
            folder: Made where it is missing; files of the same names are replaced.
            license: Of the weights, as the hub names it: 'apache-2.0', 'cc-by-nc-4.0', ...
            figures: Results for the card, as ``{'UCF101, finetuned': '90.1 %'}``.

        Raises:
            WriteError: The folder cannot be written.
        """
        if self.arguments is None:
            raise ValueError(f'it is not known what this {type(self).__name__} was built with')
        kind, state = type(self).__name__, self.state_dict()
        write_pretrained(folder, kind, self.arguments, state, self.run, license, figures)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        license: str | None = None,
        figures: dict | None = None,
        private: bool | None = None,
        token: str | bool | None = None,
        message: str = 'Upload encoder',
    ) -> str:
        """Upload the encoder and its model card to the Hugging Face hub.

        Args:
            repo_id: 'user/name'; created where it is missing.
            license: As for :meth:`save_pretrained`.
            figures: As for :meth:`save_pretrained`.
            private: Whether a new repository is private.
            token: That of ``hf auth login`` by default.
            message: Of the commit.

        Returns:
            Address of the commit.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, license, figures)
            return upload(folder, repo_id, private, token, message)


def fetch(source: str | os.PathLike, **options) -> Path:
    """Return the folder itself, or that where files of a repository were downloaded to.

    Args:
        source: The folder, or the id of the repository.
        **options: Of ``huggingface_hub.snapshot_download``.

    Raises:
        FileNotFoundError: There is no such folder, and no such repository can be had.
        ImportError: ``source`` is not a folder, and huggingface_hub is not installed.
        ValueError: It is a file.
    """
    path = Path(source)
    if path.is_dir():
        return path
    if path.is_file():
        raise ValueError(f'{source} is a file, not a folder: use bimm_mm.apis.load_encoder')
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError
    except ImportError as error:
        raise ImportError(
            f'there is no folder {source}; to download it: pip install huggingface_hub'
        ) from error
    try:
        return Path(snapshot_download(str(source), allow_patterns=[CONFIG, WEIGHTS], **options))
    except HFValidationError as error:
        raise FileNotFoundError(f'no folder {path.absolute()}, and no id: {error}') from error
    except Exception as error:  # requests' and the hub's own, of many kinds
        reason = str(error).strip().splitlines()[0]
        raise FileNotFoundError(
            f'no folder {path.absolute()}, and no repository {source} on the hub: {reason}'
        ) from error


def upload(
    folder: str | os.PathLike,
    repo_id: str,
    private: bool | None = None,
    token: str | bool | None = None,
    message: str = 'Upload encoder',
) -> str:
    """Upload a folder to the Hugging Face hub; return the address of the commit.

    Raises:
        ImportError: huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise ImportError('to upload: pip install huggingface_hub') from error
    api = HfApi(token=token)
    repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
    commit = api.upload_folder(repo_id=repo_id, folder_path=str(folder), commit_message=message)
    return str(commit.commit_url)


def is_pretrained(folder: str | os.PathLike) -> bool:
    """Tell whether a folder was written by :func:`write_pretrained`."""
    try:
        config = json.loads((Path(folder) / CONFIG).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get('library') == 'bimm_mm'


def read_pretrained(folder: str | os.PathLike) -> tuple[dict[str, Tensor], dict]:
    """Read the weights and the config.json of a folder that :func:`write_pretrained` wrote.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: The folder is of another library.
    """
    folder = Path(folder)
    if not (folder / CONFIG).is_file():
        raise FileNotFoundError(f'no {CONFIG} in {folder}')
    if not is_pretrained(folder):
        raise ValueError(
            f'{folder} was not written by save_pretrained of this toolkit: '
            'use bimm_mm.apis.load_encoder, which reads those of transformers and timm, too'
        )
    state, _, config = read_weights(folder)
    return state, config


def write_pretrained(
    folder: str | os.PathLike,
    kind: str,
    arguments: dict,
    state: dict[str, Tensor],
    run: dict | None = None,
    license: str | None = None,
    figures: dict | None = None,
) -> None:
    """Write an encoder: config.json, model.safetensors and the model card.

    Args:
        folder: Made where it is missing.
        kind: Class of the encoder.
        arguments: That it is built with.
        state: Its weights.
        run: What is known of its training.
        license: Of the weights.
        figures: Results for the card.

    Raises:
        WriteError: The folder cannot be written.
    """
    from safetensors.torch import save

    folder = Path(folder)
    check_writable(folder)
    config = dict(library='bimm_mm', version=__version__, type=kind, arguments=arguments)
    config |= dict(run=run) if run else {}
    tensors = {key: value.detach().cpu().clone().contiguous() for key, value in state.items()}
    content = save(tensors, metadata=dict(format='pt'))
    write_whole(folder / WEIGHTS, lambda file: file.write(content))
    write_text(folder / CONFIG, json.dumps(config, indent=2) + '\n')
    count = sum(value.numel() for value in tensors.values())
    write_text(folder / CARD, model_card(kind, arguments, count, run, license, figures))


def export_pretrained(
    source: str | os.PathLike,
    folder: str | os.PathLike,
    branch: str,
    license: str | None = None,
    figures: dict | None = None,
) -> int:
    """Write the encoder of a checkpoint as :meth:`HubMixin.save_pretrained` does.

    Args:
        source: A checkpoint of pretraining or finetuning.
        folder: Made where it is missing.
        branch: 'dorsal' or 'ventral'.
        license: Of the weights.
        figures: Results for the card.

    Returns:
        Number of tensors.

    Raises:
        FileNotFoundError: There is no ``source``.
        ValueError: It holds no such encoder, or does not tell its config.
        WriteError: The folder cannot be written.
    """
    state, meta = read_branch(source, branch, alone=True)
    arguments = dict((meta.pop('backbones', None) or {}).get(branch) or {})
    if 'type' not in arguments:
        raise ValueError(
            f'{source} does not tell the config of its encoder (CheckpointContentsHook writes it)'
        )
    kind = str(arguments.pop('type')).rpartition('.')[2]
    write_pretrained(folder, kind, arguments, state, dict(meta, branch=branch), license, figures)
    return len(state)
