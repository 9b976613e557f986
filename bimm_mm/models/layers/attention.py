"""Multi-head attention, global or in windows. The kernel is torch's."""

import math

import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, embed_dims: int, num_heads: int) -> None:
        super().__init__()
        if embed_dims % num_heads:
            raise ValueError(f'embed_dims={embed_dims} is not a multiple of num_heads={num_heads}')
        self.num_heads = num_heads
        self.qkv = nn.Linear(embed_dims, 3 * embed_dims)
        self.proj = nn.Linear(embed_dims, embed_dims)

    def forward(self, x: Tensor, mask: Tensor | None = None, last: int | None = None) -> Tensor:
        """(B, L, C) to (B, L, C).

        Args:
            x: (B, L, C) tokens.
            mask: (B, 1, 1, L), True where a token may be looked at.
            last: Only so many tokens at the end look at the others, and are
                returned: (B, last, C).
        """
        batch, length, channels = x.shape
        if last is None:
            query, key, value = self.qkv(x).view(batch, length, 3, self.num_heads, -1).unbind(2)
        else:
            weights, biases = self.qkv.weight, self.qkv.bias
            query = F.linear(x[:, -last:], weights[:channels], biases[:channels])
            query = query.view(batch, last, self.num_heads, -1)
            rest = F.linear(x, weights[channels:], biases[channels:])
            key, value = rest.view(batch, length, 2, self.num_heads, -1).unbind(2)
        x = F.scaled_dot_product_attention(
            query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), attn_mask=mask
        )
        return self.proj(x.transpose(1, 2).flatten(2))


def cut_windows(x: Tensor, grid: tuple[int, int, int], window: int) -> tuple[Tensor, Tensor | None]:
    """Cut a token grid into square windows, padded at the lower and right end.

    Args:
        x: (B, T' * H' * W', C).
        grid: (T', H', W').
        window: Side of a window in tokens.

    Returns:
        (B * windows, T' * window², C), and for the windows of one image (windows,
        T' * window²) True where a token is real, or None where nothing had to be padded.
    """
    t, h, w = grid
    rows, columns = math.ceil(h / window), math.ceil(w / window)
    padding = (0, 0, 0, columns * window - w, 0, rows * window - h)

    def cut(tokens: Tensor) -> Tensor:
        tokens = F.pad(tokens.view(-1, t, h, w, tokens.shape[-1]), padding)
        tokens = tokens.view(-1, t, rows, window, columns, window, tokens.shape[-1])
        return tokens.permute(0, 2, 4, 1, 3, 5, 6).reshape(-1, t * window**2, tokens.shape[-1])

    inside = cut(x.new_ones(1, t * h * w, 1))[..., 0].bool() if any(padding) else None
    return cut(x), inside


def join_windows(x: Tensor, grid: tuple[int, int, int], window: int) -> Tensor:
    """The inverse of :func:`cut_windows`: (B * windows, T' * window², C) to (B, T'*H'*W', C)."""
    t, h, w = grid
    rows, columns = math.ceil(h / window), math.ceil(w / window)
    x = x.view(-1, rows, columns, t, window, window, x.shape[-1]).permute(0, 3, 1, 4, 2, 5, 6)
    x = x.reshape(len(x), t, rows * window, columns * window, x.shape[-1])
    return x[:, :, :h, :w].flatten(1, 3)
