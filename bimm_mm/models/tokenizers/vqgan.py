"""VQGAN (Esser et al., 2021): the encoders of taming-transformers, with either quantizer."""

import os
import re
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from .base import BaseTokenizer
from .files import load_strictly, read_tensors

PARTS = ('encoder.', 'quant_conv.', 'quantize.embedding.', 'quantize.proj.')


def convert_vqgan(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take encoder and quantizer out of a checkpoint of taming-transformers.

    The decoder, the discriminator, LPIPS and the Gumbel quantizer's embedding, which only a
    decoder needs, are left out.

    Raises:
        ValueError: If there is no such model; names the first keys.
    """
    parts = {key: v.float() for key, v in state.items() if key.startswith(PARTS)}
    codebooks = [key for key in parts if key.startswith('quantize.') and key.endswith('.weight')]
    if 'encoder.conv_in.weight' not in parts or len(codebooks) != 1:
        raise ValueError(
            'no VQGAN of taming-transformers: it needs encoder.conv_in.weight and either '
            'quantize.embedding.weight or quantize.proj.weight, and the first keys are '
            f'{", ".join(list(state)[:4])}'
        )
    return parts


@MODELS.register_module()
class VqganTokenizer(BaseTokenizer):
    """Codes of a VQGAN: f16 with 1024 or 16384 codes, f8 with 8192 (Gumbel), or one's own.

    All sizes are read from the weights. Pixels are RGB in [-1, 1]. The plain quantizer takes the
    nearest vector of the codebook. The Gumbel quantizer samples in taming-transformers, even in
    evaluation; here it takes the arg-max of the same logits, so that codes are reproducible.

    Args:
        checkpoint: A Lightning checkpoint of taming-transformers (``last.ckpt``), or what
            ``tools/model_converters/convert_tokenizer.py`` made of it, which holds the encoder
            only. Read without running code.
        **kwargs: As of :class:`BaseTokenizer`.

    Raises:
        FileNotFoundError, ValueError: As :class:`BaseTokenizer`.
    """

    source = (
        'the models are listed at '
        'https://github.com/CompVis/taming-transformers#overview-of-pretrained-models'
    )

    def load(self, checkpoint: str | os.PathLike) -> tuple[nn.Module, int, int]:
        """As :meth:`BaseTokenizer.load`."""
        state = convert_vqgan(read_tensors(checkpoint))
        network = VqganEncoder(**read_sizes(state))
        load_strictly(network, state, checkpoint)
        return network, network.num_codes, network.factor

    def encode(self, pixels: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] to (N, H / factor, W / factor) codes."""
        return self.network(2 * pixels - 1)


def read_sizes(state: dict[str, Tensor]) -> dict:
    """The arguments of :class:`VqganEncoder` that such weights need."""

    def count(pattern: str) -> int:
        found = {m.group(1) for key in state if (m := re.match(pattern, key))}
        return len(found)

    levels = count(r'encoder\.down\.(\d+)\.')
    if not levels or 'quant_conv.weight' not in state:
        raise ValueError('the VQGAN is not complete: it has no encoder.down or no quant_conv')
    with_attention = {
        m.group(1) for k in state if (m := re.match(r'encoder\.down\.(\d+)\.attn', k))
    }
    gumbel = 'quantize.proj.weight' in state
    codebook = state['quantize.proj.weight' if gumbel else 'quantize.embedding.weight']
    return dict(
        widths=[len(state[f'encoder.down.{i}.block.0.conv1.weight']) for i in range(levels)],
        in_width=len(state['encoder.conv_in.weight']),
        num_blocks=count(r'encoder\.down\.0\.block\.(\d+)\.'),
        attention_levels=sorted(int(level) for level in with_attention),
        latent_width=state['quant_conv.weight'].shape[1],
        code_width=len(state['quant_conv.weight']),
        num_codes=len(codebook),
        gumbel=gumbel,
    )


class VqganEncoder(nn.Module):
    """Encoder and quantizer of a VQGAN, with the keys of taming-transformers.

    Args:
        widths: Channels of each level; between levels the resolution is halved.
        in_width: Channels after the first convolution.
        num_blocks: Residual blocks per level.
        attention_levels: Levels with self-attention after each block.
        latent_width: Channels of the encoder's output.
        code_width: Channels of a code's vector.
        num_codes: V.
        gumbel: Whether codes are the arg-max of logits, or else the nearest vector.
    """

    def __init__(
        self,
        widths: Sequence[int],
        in_width: int,
        num_blocks: int,
        attention_levels: Sequence[int],
        latent_width: int,
        code_width: int,
        num_codes: int,
        gumbel: bool,
    ) -> None:
        super().__init__()
        self.num_codes = num_codes
        self.factor = 2 ** (len(widths) - 1)
        self.gumbel = gumbel
        encoder = nn.Module()
        encoder.conv_in = nn.Conv2d(3, in_width, 3, padding=1)
        encoder.down = nn.ModuleList()
        width = in_width
        for level, out_width in enumerate(widths):
            stage = nn.Module()
            stage.block = nn.ModuleList(
                ResidualBlock(width if index == 0 else out_width, out_width)
                for index in range(num_blocks)
            )
            with_attention = level in attention_levels
            stage.attn = nn.ModuleList(
                SpatialAttention(out_width) for _ in range(num_blocks if with_attention else 0)
            )
            if level < len(widths) - 1:
                stage.downsample = nn.Module()
                stage.downsample.conv = nn.Conv2d(out_width, out_width, 3, stride=2)
            encoder.down.append(stage)
            width = out_width
        encoder.mid = nn.Module()
        encoder.mid.block_1 = ResidualBlock(width, width)
        encoder.mid.attn_1 = SpatialAttention(width)
        encoder.mid.block_2 = ResidualBlock(width, width)
        encoder.norm_out = _norm(width)
        encoder.conv_out = nn.Conv2d(width, latent_width, 3, padding=1)
        self.encoder = encoder
        self.quant_conv = nn.Conv2d(latent_width, code_width, 1)
        self.quantize = nn.Module()
        if gumbel:
            self.quantize.proj = nn.Conv2d(code_width, num_codes, 1)
        else:
            self.quantize.embedding = nn.Embedding(num_codes, code_width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1] to codes (N, H / factor, W / factor)."""
        x = self.quant_conv(self.latents(x))  # (N, code_width, H', W')
        if self.gumbel:
            return self.quantize.proj(x).argmax(dim=1)
        vectors = x.permute(0, 2, 3, 1).flatten(0, 2)  # (N * H' * W', code_width)
        return nearest(vectors, self.quantize.embedding.weight).view(len(x), *x.shape[2:])

    def latents(self, x: Tensor) -> Tensor:
        """The encoder's output, (N, latent_width, H', W')."""
        encoder = self.encoder
        x = encoder.conv_in(x)
        for stage in encoder.down:
            for index, block in enumerate(stage.block):
                x = block(x)
                if len(stage.attn):
                    x = stage.attn[index](x)
            if hasattr(stage, 'downsample'):
                # one zero row and column, at the lower and right end only
                x = stage.downsample.conv(F.pad(x, (0, 1, 0, 1)))
        x = encoder.mid.block_1(x)
        x = encoder.mid.attn_1(x)
        x = encoder.mid.block_2(x)
        return encoder.conv_out(F.silu(encoder.norm_out(x)))


class ResidualBlock(nn.Module):
    """Two convolutions with GroupNorm and SiLU before each, beside a shortcut."""

    def __init__(self, in_width: int, out_width: int) -> None:
        super().__init__()
        self.norm1 = _norm(in_width)
        self.conv1 = nn.Conv2d(in_width, out_width, 3, padding=1)
        self.norm2 = _norm(out_width)
        self.conv2 = nn.Conv2d(out_width, out_width, 3, padding=1)
        if in_width != out_width:
            self.nin_shortcut = nn.Conv2d(in_width, out_width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H, W)."""
        out = self.conv1(F.silu(self.norm1(x)))
        out = self.conv2(F.silu(self.norm2(out)))
        return out + (self.nin_shortcut(x) if hasattr(self, 'nin_shortcut') else x)


class SpatialAttention(nn.Module):
    """Self-attention with one head over the positions of a map, beside a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = _norm(width)
        self.q = nn.Conv2d(width, width, 1)
        self.k = nn.Conv2d(width, width, 1)
        self.v = nn.Conv2d(width, width, 1)
        self.proj_out = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H, W)."""
        normed = self.norm(x)
        tokens = [part(normed).flatten(2).mT for part in (self.q, self.k, self.v)]  # (N, HW, C)
        out = F.scaled_dot_product_attention(*tokens)
        return x + self.proj_out(out.mT.reshape(x.shape))


def nearest(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Index of the nearest row of ``codebook`` (V, D), in Euclidean distance: (N, D) to (N,)."""
    # the squared norm of the vector itself is the same for all codes
    scores = torch.addmm(codebook.square().sum(dim=1), vectors, codebook.T, alpha=-2)
    return scores.argmin(dim=1)


def _norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, width, eps=1e-6)
