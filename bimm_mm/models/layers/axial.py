"""Attention along the axes of a clip's grid, and positions by axis, of VIMPAC."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...utils import draws
from .dropout import Dropout

# Tokens of a line, up to which the weights of attention are few beside the activations. They are
# then computed where dropout is to be drawn by samples, which torch's fused attention cannot do.
SHORT_LINE = 65


class AxisPositions(nn.Module):
    """Learned positions: the sum of a vector of the time, one of the row, one of the column.

    Args:
        embed_dims: Width C.
        grid: (T, H', W').
    """

    AXES = ('time', 'rows', 'columns')

    def __init__(self, embed_dims: int, grid: tuple[int, int, int]) -> None:
        super().__init__()
        self.cls = nn.Parameter(torch.empty(embed_dims))
        nn.init.normal_(self.cls, std=0.02)
        for name, length in zip(self.AXES, grid, strict=True):
            table = nn.Parameter(torch.empty(length, embed_dims))
            nn.init.normal_(table, std=0.02 / 3**0.5)
            self.register_parameter(name, table)
        self.register_load_state_dict_pre_hook(_resize_tables)

    def forward(self, grid: tuple[int, int, int]) -> Tensor:
        """Positions of a grid that is as long or shorter: (T, H', W', C)."""
        time, rows, columns = (
            getattr(self, name)[:length] for name, length in zip(self.AXES, grid, strict=True)
        )
        return time[:, None, None] + rows[:, None] + columns


def resize_table(table: Tensor, length: int) -> Tensor:
    """Interpolate position vectors linearly to another number of places: (n, C) to (length, C)."""
    if len(table) == length:
        return table
    resized = F.interpolate(table.float().T[None], size=length, mode='linear', align_corners=False)
    return resized[0].T.to(table.dtype)


def _resize_tables(module: AxisPositions, state: dict, prefix: str, *args: object) -> None:
    for name in module.AXES:
        if prefix + name in state:
            length = len(getattr(module, name))
            state[prefix + name] = resize_table(state[prefix + name], length)


class PostNormBlock(nn.Module):
    """Post-norm Transformer block: attention steps, then an MLP, each followed by a LayerNorm.

    Args:
        embed_dims: Width C.
        num_heads: Attention heads of a step, divided among its parallel parts.
        head_dims: Width of a head.
        mlp_dims: Hidden width of the MLP.
        steps: Axes of each attention step, see ``ATTENTIONS``.
        drop_rate: Dropout after each step and after the MLP.
        attn_drop_rate: Dropout of attention weights.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        head_dims: int,
        mlp_dims: int,
        steps: Sequence[Sequence[str]],
        drop_rate: float = 0.1,
        attn_drop_rate: float = 0.1,
    ) -> None:
        super().__init__()
        self.steps = nn.ModuleList(
            AxialAttention(embed_dims, num_heads, head_dims, axes, drop_rate, attn_drop_rate)
            for axes in steps
        )
        self.mlp = nn.Sequential()
        self.mlp.add_module('fc1', nn.Linear(embed_dims, mlp_dims))
        self.mlp.add_module('act', nn.GELU())
        self.mlp.add_module('fc2', nn.Linear(mlp_dims, embed_dims))
        self.drop = Dropout(drop_rate)
        self.norm = nn.LayerNorm(embed_dims, eps=1e-12)

    def forward(
        self, x: Tensor, grid: tuple[int, int, int], inside: Tensor | None = None
    ) -> Tensor:
        """(B, 1 + L, C), class token first, to the same shape.

        Args:
            x: The tokens.
            grid: (T, H', W').
            inside: (B, T, H', W') bool, True for tokens that may be keys; all when left out.
        """
        for step in self.steps:
            x = step(x, grid, inside)
        return self.norm(x + self.drop(self.mlp(x)))


class AxialAttention(nn.Module):
    """Self-attention along one or more axes in parallel, with its projection, residual and norm.

    Args:
        embed_dims: Width C.
        num_heads: Heads, divided among the axes.
        head_dims: Width of a head.
        axes: 'T', 'H', 'W', 'HW' or 'THW': along which tokens attend; (H, W) runs two in parallel.
        drop_rate: Dropout after the projection.
        attn_drop_rate: Dropout of attention weights.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        head_dims: int,
        axes: Sequence[str],
        drop_rate: float,
        attn_drop_rate: float,
    ) -> None:
        super().__init__()
        if num_heads % len(axes):
            raise ValueError(
                f'num_heads={num_heads} must be divisible by the {len(axes)} parallel axes'
            )
        self.axes, self.num_heads = tuple(axes), num_heads // len(axes)
        self.attn_drop_rate = attn_drop_rate
        width = self.num_heads * head_dims
        self.qkv = nn.ModuleDict({axis: nn.Linear(embed_dims, 3 * width) for axis in axes})
        self.proj = nn.Linear(width * len(axes), embed_dims)
        self.drop = Dropout(drop_rate)
        self.norm = nn.LayerNorm(embed_dims, eps=1e-12)

    def forward(self, x: Tensor, grid: tuple[int, int, int], inside: Tensor | None) -> Tensor:
        """As :meth:`PostNormBlock.forward`."""
        parts = [self._attend(x, axis, grid, inside) for axis in self.axes]
        return self.norm(x + self.drop(self.proj(torch.cat(parts, dim=-1))))

    def _attend(
        self, x: Tensor, axis: str, grid: tuple[int, int, int], inside: Tensor | None
    ) -> Tensor:
        """Attention along the lines of one axis: (B, 1 + L, C) to (B, 1 + L, heads * head_dims)."""
        batch, heads = len(x), self.num_heads
        qkv = self.qkv[axis](x)  # (B, 1 + L, 3 * heads * D)
        cls, tokens = qkv[:, :1], qkv[:, 1:]
        lines = to_lines(tokens.unflatten(1, grid), axis)  # (B, lines, n, 3 * heads * D)
        count, length = lines.shape[1:3]
        lines = torch.cat([cls[:, None].expand(-1, count, -1, -1), lines], dim=2)
        query, key, value = (
            lines.flatten(0, 1).unflatten(2, (3, heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        )  # (B * lines, heads, 1 + n, D) each
        mask = None
        if inside is not None:
            mask = to_lines(inside[..., None], axis).flatten(0, 1)[..., 0]  # (B * lines, n)
            mask = F.pad(mask, (1, 0), value=True)[:, None, None]  # the class token is always a key
        rate = self.attn_drop_rate if self.training else 0.0
        out = attend_with_dropout(query, key, value, mask, rate, batch)
        out = out.transpose(1, 2).flatten(2).view(batch, count, 1 + length, -1)
        cls = out[:, :, 0].mean(dim=1, keepdim=True)  # over the copies
        return torch.cat([cls, from_lines(out[:, :, 1:], axis, grid)], dim=1)


def attend_with_dropout(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, rate: float, batch: int
) -> Tensor:
    """Attention with dropout of its weights, drawn by samples where lines are short.

    Args:
        query, key, value: (B * lines, heads, n, D).
        mask: (B * lines, 1, 1, n) bool, False for tokens that are no keys.
        rate: Share of the weights that become zero.
        batch: B.
    """
    if not (rate and draws.is_global() and query.shape[2] <= SHORT_LINE):
        return F.scaled_dot_product_attention(query, key, value, mask, rate)
    scores = query @ key.mT * query.shape[-1] ** -0.5  # (B * lines, heads, n, n)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    weights = scores.softmax(dim=-1).unflatten(0, (batch, -1))
    return draws.dropout(weights, rate).flatten(0, 1).to(value.dtype) @ value


# how (B, T, H, W, C) is permuted so that the axes of a line come last, before the channels
_ORDERS = {
    'T': (0, 2, 3, 1, 4),
    'H': (0, 1, 3, 2, 4),
    'W': (0, 1, 2, 3, 4),
    'HW': (0, 1, 2, 3, 4),
    'THW': (0, 1, 2, 3, 4),
}


def to_lines(x: Tensor, axis: str) -> Tensor:
    """Cut a grid into the lines of an axis: (B, T, H, W, C) to (B, lines, n, C)."""
    x = x.permute(_ORDERS[axis])
    inner = len(axis)  # axes within a line
    x = x.flatten(4 - inner, 3)  # (B, ..., n, C)
    return x.flatten(1, -3) if x.dim() > 3 else x[:, None]


def from_lines(x: Tensor, axis: str, grid: tuple[int, int, int]) -> Tensor:
    """The inverse of :func:`to_lines`, flattened: (B, lines, n, C) to (B, T * H * W, C)."""
    order = _ORDERS[axis]
    sizes = [grid[i - 1] for i in order[1:4]]
    x = x.reshape(len(x), *sizes, x.shape[-1])
    inverse = [order.index(i) for i in range(5)]
    return x.permute(inverse).flatten(1, 3)
