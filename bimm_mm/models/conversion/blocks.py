"""Transformer blocks and heads of other libraries, once their parts have our names."""

import math

import torch
from torch import Tensor


def take(parts: dict[str, Tensor], name: str, kind: str) -> Tensor:
    """Take a tensor out of ``parts``; ValueError where it is missing."""
    if name not in parts:
        raise ValueError(f'--kind {kind}: the checkpoint lacks what becomes {name}')
    return parts.pop(name)


def convert_blocks(
    parts: dict[str, Tensor], kind: str, where: str
) -> tuple[dict[str, Tensor], dict]:
    """Take the Transformer blocks out of ``parts``; their weights, and their settings."""
    state, depth = {}, 0
    while any(key.startswith(f'blocks.{depth}.') for key in parts):
        prefix = f'blocks.{depth}.'

        for name in ('norm1', 'attn.proj', 'norm2', 'mlp.fc1', 'mlp.fc2'):
            for leaf in ('weight', 'bias'):
                state[f'{prefix}{name}.{leaf}'] = take(parts, f'{prefix}{name}.{leaf}', kind)
        state |= _join_qkv(parts, f'{prefix}attn.', kind)
        depth += 1
    if not depth:
        raise ValueError(f'--kind {kind}: the checkpoint has no {where}')
    unknown = [key for key in parts if key.startswith('blocks.')]
    if unknown:
        raise ValueError(
            f'--kind {kind}: {where} have parts which a TransformerBlock has not, and without '
            f'which they would give something else: {", ".join(unknown[:5])}'
        )
    hidden, width = state['blocks.0.mlp.fc1.weight'].shape
    return state, dict(embed_dims=width, depth=depth, mlp_ratio=mlp_ratio_of(hidden, width))


def mlp_ratio_of(hidden: int, width: int) -> float:
    """The ratio whose product with the width, cut to a whole number, is the hidden width."""
    ratio = hidden / width
    return ratio if int(width * ratio) == hidden else math.nextafter(ratio, math.inf)


def _join_qkv(parts: dict[str, Tensor], prefix: str, kind: str) -> dict[str, Tensor]:
    """One linear layer for queries, keys and values; a bias that is missing is zero."""
    if f'{prefix}qkv.weight' in parts:
        weight = take(parts, f'{prefix}qkv.weight', kind)
    else:
        weight = torch.cat([take(parts, f'{prefix}{part}.weight', kind) for part in 'qkv'])
    bias = parts.pop(f'{prefix}qkv.bias', None)
    if bias is None:
        zeros = weight.new_zeros(len(weight) // 3)
        names = [(f'{prefix}{part}_bias', f'{prefix}{part}.bias') for part in 'qkv']
        bias = torch.cat([_one_of(parts, pair, zeros, kind) for pair in names])
    return {f'{prefix}qkv.weight': weight, f'{prefix}qkv.bias': bias}


def _one_of(parts: dict[str, Tensor], names: tuple[str, str], default: Tensor, kind: str) -> Tensor:
    """Take what has either name, or both and the same values; else ``default``."""
    found = [parts.pop(name) for name in names if name in parts] or [default]
    if not all(torch.equal(found[0], other) for other in found):
        raise ValueError(f'--kind {kind}: {" and ".join(names)} are the same bias, and differ')
    return found[0]


def reorder(rows: Tensor, channels: int) -> Tensor:
    """Rows of a head from the order frame, row, column, channel to channel, frame, row, column."""
    return rows.unflatten(0, (-1, channels)).transpose(0, 1).flatten(0, 1).contiguous()
