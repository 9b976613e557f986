"""Cross-attention of a regressor: queries look at a memory that they do not change."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .drop_path import DropPath


class CrossAttention(nn.Module):
    """Multi-head attention with queries, keys and values of their own; keys have no bias (CAE).

    Args:
        embed_dims: Width C.
        num_heads: Attention heads; divides C.
    """

    def __init__(self, embed_dims: int, num_heads: int) -> None:
        super().__init__()
        if embed_dims % num_heads:
            raise ValueError(f'embed_dims={embed_dims} is not a multiple of num_heads={num_heads}')
        self.num_heads = num_heads
        self.query = nn.Linear(embed_dims, embed_dims)
        self.key = nn.Linear(embed_dims, embed_dims, bias=False)
        self.value = nn.Linear(embed_dims, embed_dims)
        self.proj = nn.Linear(embed_dims, embed_dims)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(B, M, C), and (B, L, C) twice, to (B, M, C)."""
        query, key, value = (
            layer(x).unflatten(2, (self.num_heads, -1)).transpose(1, 2)  # (B, heads, M or L, D)
            for layer, x in ((self.query, query), (self.key, key), (self.value, value))
        )
        x = F.scaled_dot_product_attention(query, key, value)
        return self.proj(x.transpose(1, 2).flatten(2))


class RegressorBlock(nn.Module):
    """A block of CAE's regressor: queries look at visible latents and at themselves.

    Keys and queries have positions, values have not, each with a LayerNorm of its own. The second
    LayerNorm stands on the residual path, as in CAE's code.

    Args:
        embed_dims: Width C.
        num_heads: Attention heads; divides C.
        mlp_ratio: Hidden width of the MLP over C.
        drop_path: Probability of leaving out a residual branch, in [0, 1).
        layer_scale: What each channel of a residual branch is multiplied by at first.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        layer_scale: float = 0.1,
    ) -> None:
        super().__init__()
        hidden = int(embed_dims * mlp_ratio)
        self.norm_query, self.norm_key, self.norm_value, self.norm_mlp = (
            nn.LayerNorm(embed_dims, eps=1e-6) for _ in range(4)
        )
        self.attn = CrossAttention(embed_dims, num_heads)
        self.mlp = nn.Sequential(
            nn.Linear(embed_dims, hidden), nn.GELU(), nn.Linear(hidden, embed_dims)
        )
        self.scale_attn = nn.Parameter(torch.full((embed_dims,), layer_scale))
        self.scale_mlp = nn.Parameter(torch.full((embed_dims,), layer_scale))
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(
        self, x: Tensor, visible: Tensor, pos_masked: Tensor, pos_visible: Tensor
    ) -> Tensor:
        """Update the queries.

        Args:
            x: (B, M, C) queries.
            visible: (B, K, C) latents of visible tokens, which stay as they are.
            pos_masked: (B, M, C) positions of the queries.
            pos_visible: (B, K, C) positions of the visible tokens.

        Returns:
            (B, M, C).
        """
        memory = torch.cat([visible, x], dim=1)  # (B, K + M, C)
        positions = torch.cat([pos_visible, pos_masked], dim=1)
        attended = self.attn(
            self.norm_query(x + pos_masked),
            self.norm_key(memory + positions),
            self.norm_value(memory),
        )
        x = self.norm_mlp(x + self.drop_path(self.scale_attn * attended))
        return x + self.drop_path(self.scale_mlp * self.mlp(x))
