"""The discrete VAE of DALL·E (Ramesh et al., 2021): 8192 codes of 8 x 8 pixels."""

import os
import re

import torch
from mmengine.registry import MODELS
from torch import Tensor

from .base import BaseTokenizer
from .files import load_strictly, read_tensors

INPUT = 'blocks.input.weight'
OUTPUT = 'blocks.output.conv.weight'


def convert_dalle(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of a dVAE's encoder as transformers' ``FlavaImageCodebook`` names them.

    Args:
        state: Of OpenAI's ``encoder.pkl``, of mmpretrain's ``dalle_encoder.pth``, of
            ``FlavaImageCodebook``, or of a ``FlavaForPreTraining``, which holds one.

    Raises:
        ValueError: If there is no such encoder; names the first keys.
    """
    start = next(
        (key for key in state if re.search(r'(^|\.)blocks\.input\.(w|weight)$', key)), None
    )
    if start is None:
        raise ValueError(
            f"no encoder of DALL·E's dVAE: no key ends in 'blocks.input.w' or '{INPUT}', the first "
            f'are {", ".join(list(state)[:4])}'
        )
    prefix = start[: start.index('blocks.input')]
    result = {}
    for key, value in state.items():
        if not key.startswith(f'{prefix}blocks.'):
            continue
        name = key.removeprefix(prefix)
        # OpenAI's names: group_1.block_1.res_path.conv_1.w
        name = re.sub(r'\.w$', '.weight', re.sub(r'\.b$', '.bias', name))
        name = re.sub(r'(group_\d+)\.block', r'\1.group.block', name)
        name = re.sub(r'res_path\.conv', 'res_path.path.conv', name)
        result[name] = value.float()
    return result


@MODELS.register_module()
class DalleTokenizer(BaseTokenizer):
    """Codes of DALL·E's discrete VAE, as BEiT, CAE, BEVT and VIMPAC use them.

    The network is transformers' ``FlavaImageCodebook``. Its pixels are those of DALL·E, 0.8 x +
    0.1 of RGB in [0, 1], and the code of a place is the arg-max of its 8192 logits. OpenAI's own
    class computes in half precision on a GPU; this one in single precision everywhere, so that
    single codes can differ.

    Args:
        checkpoint: ``encoder.pkl`` of OpenAI, mmpretrain's ``dalle_encoder.pth``, what
            ``tools/model_converters/convert_tokenizer.py`` made of one of them, or the file or
            folder of a ``FlavaImageCodebook`` (safetensors). Read without running code.
        num_codes: 8192, or that of one's own.
        factor: 8.
        **kwargs: As of :class:`BaseTokenizer`.

    Raises:
        FileNotFoundError, ValueError: As :class:`BaseTokenizer`.
        ImportError: If transformers is not installed.
    """

    source = (
        'take encoder.pkl from https://cdn.openai.com/dall-e/encoder.pkl, or the folder of '
        'facebook/flava-image-codebook from the Hugging Face hub'
    )

    def __init__(
        self, checkpoint: str | os.PathLike, num_codes: int = 8192, factor: int = 8, **kwargs
    ) -> None:
        super().__init__(checkpoint, num_codes=num_codes, factor=factor, **kwargs)

    def load(self, checkpoint: str | os.PathLike) -> tuple[torch.nn.Module, int, int]:
        """As :meth:`BaseTokenizer.load`."""
        state = convert_dalle(read_tensors(checkpoint))
        network = _build(state)
        load_strictly(network, state, checkpoint)
        return network, len(state[OUTPUT]), 8

    def encode(self, pixels: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] to (N, H / 8, W / 8) codes."""
        return self.network.get_codebook_indices(0.8 * pixels + 0.1)


def _build(state: dict[str, Tensor]) -> torch.nn.Module:
    """The network that has such weights; sizes are those of the weights."""
    try:
        from transformers import FlavaImageCodebook, FlavaImageCodebookConfig
    except ImportError as error:
        raise ImportError(
            'DalleTokenizer needs transformers: pip install "transformers>=4.49,<4.50"'
        ) from error
    if OUTPUT not in state:
        raise ValueError(f"the encoder of DALL·E's dVAE is not complete: no '{OUTPUT}'")
    blocks = {key.split('.')[3] for key in state if key.startswith('blocks.group_1.')}
    config = FlavaImageCodebookConfig(
        num_blocks_per_group=len(blocks),
        hidden_size=len(state[INPUT]),
        vocab_size=len(state[OUTPUT]),
    )
    return FlavaImageCodebook(config)
