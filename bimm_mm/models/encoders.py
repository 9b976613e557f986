"""The encoder in a file, whatever made the file, ready to be called."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from ..utils.checkpoint import read_checkpoint, strip_prefix
from .checkpoints import BRANCHES, check_fit
from .conversion import convert_source
from .hub import fetch, is_pretrained, read_pretrained
from .targets.base import IMAGENET_MEAN, IMAGENET_STD


class EncoderOutput(NamedTuple):
    """What an :class:`Encoder` returns.

    Attributes:
        cls_token: (B, C), None for encoders without a class token.
        tokens: (B, L, C), frame by frame and row by row.
    """

    cls_token: Tensor | None
    tokens: Tensor


class Encoder(nn.Module):
    """An encoder of images, clips or codes.

    Args:
        backbone: Config of a :class:`BimmViT` or :class:`VimpacViT`.
        mean: Subtracted from the RGB channels of uint8 inputs, on the scale 0 to 255.
        std: What they are divided by.

    Attributes:
        backbone: The network.
    """

    def __init__(
        self,
        backbone: dict,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        backbone = dict(backbone, out_type='raw')
        for name in ('init_cfg', 'norm_after_mean', 'out_indices'):
            backbone.pop(name, None)
        if backbone.get('num_frames') is not None:
            backbone['static_images'] = True
        self.backbone = MODELS.build(backbone)
        self.register_buffer('mean', torch.tensor(mean, dtype=torch.float), persistent=False)
        self.register_buffer('std', torch.tensor(std, dtype=torch.float), persistent=False)

    def forward(self, x: Tensor) -> EncoderOutput:
        """Encode a batch.

        Args:
            x: Clips (B, 3, T, H, W) or images (B, 3, H, W), RGB: uint8, or float and normalized.
                An encoder of clips takes an image as a static clip. An encoder of codes takes
                codes (B, T, H', W'), of any type of integers but uint8, and with a tokenizer
                pixels, too.

        Raises:
            ValueError: If the input does not fit the encoder.
        """
        if x.dtype == torch.uint8:
            shape = (3, *(1,) * (x.dim() - 2))
            x = (x.float() - self.mean.view(shape)) / self.std.view(shape)
        tokens = self.backbone(x)[-1]
        if getattr(self.backbone, 'cls_token', None) is None:
            return EncoderOutput(None, tokens)
        return EncoderOutput(tokens[:, 0], tokens[:, 1:])


def load_encoder(
    path: str | os.PathLike,
    branch: str | None = None,
    backbone: dict | None = None,
    tokenizer: dict | None = None,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    device: str | torch.device | None = None,
) -> Encoder:
    """Build the encoder that a file describes, with its weights, in evaluation mode.

    Args:
        path: A checkpoint of pretraining or finetuning, an imported or an exported file of this
            toolkit, or a file or folder of any kind that ``import_checkpoint`` takes (MAE,
            VideoMAE, VIMPAC, transformers, timm); a folder of ``save_pretrained``, or the id of
            such a repository on the Hugging Face hub.
        branch: 'dorsal' (videos) or 'ventral' (images), of a file that holds both; 'dorsal' when
            left out.
        backbone: Config of the encoder, for a file that does not tell it, or settings that go
            before the file's.
        tokenizer: Config of a tokenizer, so that an encoder of codes takes pixels; that which it
            was trained with, where its file is there, when left out.
        mean, std: How uint8 inputs are normalized; ImageNet's fit all but MAE-ST.
        device: Where to put it; the CPU when left out.

    Returns:
        The encoder: called with clips, images or codes, it gives an :class:`EncoderOutput`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds no encoder, one that does not fit, or does not tell its config.
    """
    path = Path(path)
    if not path.exists() and re.fullmatch(r'[\w-]+/[\w.-]+', str(path)) and path.suffix != '.pth':
        path = fetch(path)  # 'user/name'
    state, config = _read(path, branch)
    config = dict(config or {}, **(backbone or {}))
    if 'type' not in config:
        raise ValueError(
            f'{path} does not tell the config of its encoder: give backbone=dict(type=...)'
        )
    if tokenizer is not None:
        config['tokenizer'] = dict(mean=mean, std=std) | dict(tokenizer)
    elif not Path((config.get('tokenizer') or {}).get('checkpoint', '')).is_file():
        config.pop('tokenizer', None)  # it was trained with one that is not here
    encoder = Encoder(config, mean, std)
    check_fit(encoder.backbone, state, path)
    encoder.backbone.load_state_dict(state, strict=False)
    return encoder.eval().to(device or 'cpu')


def _read(path: Path, branch: str | None) -> tuple[dict[str, Tensor], dict | None]:
    """The weights of the encoder in a file, without prefix, and its config where it is told."""
    own = None
    if is_pretrained(path):
        state, config = read_pretrained(path)
        return state, dict(config['arguments'], type=config['type'])
    if path.is_file():
        try:
            own = read_checkpoint(path)
        except ValueError:
            own = None  # what follows says why
    state = (own or {}).get('state_dict', {})
    for prefix, name in _prefixes(state, branch):
        backbones = ((own or {}).get('meta') or {}).get('backbones') or {}
        config = backbones.get(name) if name else next(iter(backbones.values()), None)
        return strip_prefix(state, prefix), config
    imported = convert_source(path)
    if branch not in (None, imported.branch):
        raise ValueError(f"branch='{branch}': {path} has only a {imported.branch} encoder")
    for prefix in (f'{imported.branch}.backbone.', 'backbone.'):
        if any(key.startswith(prefix) for key in imported.state):
            return strip_prefix(imported.state, prefix), imported.backbone
    return imported.state, imported.backbone


def _prefixes(state: dict[str, Tensor], branch: str | None) -> list[tuple[str, str | None]]:
    """Where encoders of this toolkit are in a state dict, the wanted one first, with its branch."""
    branches = (branch,) if branch else BRANCHES
    candidates = [(f'{name}.backbone.', name) for name in branches]
    candidates += [('backbone.', branch), ('', branch)]
    signs = ('patch_embed.projection.weight', 'blocks.0.steps.0.proj.weight')
    return [c for c in candidates if any(c[0] + sign in state for sign in signs)]
