"""Transformer blocks of encoders and decoders, and how they are initialized."""

import math
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import Attention, cut_windows, join_windows
from .drop_path import DropPath
from .patches import PatchEmbed


class TransformerBlock(nn.Module):
    """Pre-norm Transformer block, of encoder and decoders, on images and clips.

    Args:
        embed_dims: Width C.
        num_heads: Attention heads; divides C.
        mlp_ratio: Hidden width of the MLP over C.
        drop_path: Probability of leaving out a residual branch, in [0, 1).
        window_size: Side of the attention windows in tokens; 0 attends globally. A window
            spans all frames. Each window sees a copy of the class token; the copies are averaged
            (our choice; ViTDet drops the class token).
        norm_eps: Epsilon of the LayerNorms; MAE's and VideoMAE's is the default.

    ``is_shared`` says that the block serves two branches.
    """

    is_shared = False

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        window_size: int = 0,
        norm_eps: float = 1e-6,
    ) -> None:
        super().__init__()
        hidden = int(embed_dims * mlp_ratio)
        self.window_size = window_size
        self.norm1 = nn.LayerNorm(embed_dims, norm_eps)
        self.attn = Attention(embed_dims, num_heads)
        self.norm2 = nn.LayerNorm(embed_dims, norm_eps)
        self.mlp = nn.Sequential(
            OrderedDict(
                fc1=nn.Linear(embed_dims, hidden), act=nn.GELU(), fc2=nn.Linear(hidden, embed_dims)
            )
        )
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(
        self, x: Tensor, grid: tuple[int, int, int] | None = None, last: int | None = None
    ) -> Tensor:
        """(B, L, C) to (B, L, C).

        Args:
            x: (B, L, C) tokens, class token first.
            grid: (T', H', W'), needed where attention is windowed.
            last: Only so many tokens at the end are wanted, (B, last, C); attention
                must be global. They are the same as without it.
        """
        if last is None:
            x = x + self.drop_path(self.attend(self.norm1(x), grid))
        else:
            x = x[:, -last:] + self.drop_path(self.attn(self.norm1(x), last=last))
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def attend(self, x: Tensor, grid: tuple[int, int, int] | None) -> Tensor:
        """Attention, global or in windows: (B, L, C) to (B, L, C)."""
        if not self.window_size:
            return self.attn(x)
        cls, x = x.split([x.shape[1] - math.prod(grid), math.prod(grid)], dim=1)
        windows, inside = cut_windows(x, grid, self.window_size)
        count = len(windows) // len(x)
        windows = torch.cat([cls.repeat_interleave(count, dim=0), windows], dim=1)
        if inside is not None:
            inside = F.pad(inside, (cls.shape[1], 0), value=True)
            inside = inside.repeat(len(x), 1)[:, None, None]
        windows = self.attn(windows, inside)
        copies, windows = windows.split([cls.shape[1], windows.shape[1] - cls.shape[1]], dim=1)
        cls = copies.view(len(x), count, *cls.shape[1:]).mean(1)
        return torch.cat([cls, join_windows(windows, grid, self.window_size)], dim=1)


def init_transformer(module: nn.Module) -> None:
    """Initialize as MAE does: Xavier-uniform linear layers, zero biases. For ``Module.apply``."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, PatchEmbed):  # as the linear layer that it is
        nn.init.xavier_uniform_(module.projection.weight.view(len(module.projection.weight), -1))
        nn.init.zeros_(module.projection.bias)
