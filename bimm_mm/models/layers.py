"""What encoders and decoders, images and clips have in common.

Tokens are counted frame by frame, and row by row within a frame: token ``(t, h, w)`` of a grid
``(T', H', W')`` has the index ``(t * H' + h) * W' + w``. An image is a grid with ``T' = 1``.
"""

import math
from collections import OrderedDict

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks import DropPath
from torch import Tensor, nn

from .attention import dot_product_attention


def take_patches(x: Tensor, patch_size: tuple[int, int, int], ids: Tensor | None = None) -> Tensor:
    """Cut patches (cubes) out of images (clips), only those that are asked for.

    Args:
        x (Tensor): (B, C, T, H, W); an image has T = 1.
        patch_size (tuple[int, int, int]): frames, rows and columns of a patch. Each must divide
            the size of ``x`` along its axis.
        ids (Tensor, optional): (B, K) token indices. All tokens when left out.

    Returns:
        Tensor: (B, K, C * t * p * p), the values of a patch in the order channel, frame, row,
        column, as the weights of a convolution are.
    """
    batch, channels, *size = x.shape
    (t, gt), (h, gh), (w, gw) = ((p, s // p) for p, s in zip(patch_size, size, strict=True))
    x = x.view(batch, channels, gt, t, gh, h, gw, w).permute(0, 2, 4, 6, 1, 3, 5, 7)
    if ids is None:
        return x.reshape(batch, gt * gh * gw, -1)
    return x[places(ids, batch, gh, gw)].flatten(2)


def places(ids: Tensor, batch: int, rows: int, columns: int) -> tuple[Tensor, ...]:
    """Where tokens are in a grid of so many rows and columns, for B samples.

    (B, K) token indices to four indices, broadcast to (B, K): sample, frame, row and column.
    """
    samples = torch.arange(batch, device=ids.device)[:, None]
    return samples, ids // (rows * columns), ids // columns % rows, ids % columns


TIME_POSITIONS = ('added', 'divided', 'sequence')  # how positions hold the time of a clip


def sincos_position_embedding(
    embed_dims: int, grid: tuple[int, ...], time: str = 'added'
) -> Tensor:
    """Fixed sine-cosine position embedding of the tokens of an image or a clip.

    An image's channels are divided among columns and rows, in this order (as in MAE). Each part
    holds the sines, then the cosines, of the position times frequencies from 1 down to 1/10000.

    Args:
        embed_dims (int): C, even and at least 2 per axis.
        grid (tuple[int, ...]): (H', W') of an image or (T', H', W') of a clip, in tokens.
        time (str): how the positions of a clip hold the time. 'added': a code of the time, in all
            channels and 0 on average over the clip, is added to the position in the image (our
            choice), so that an encoder of images finds the places where it knows them. 'divided':
            the channels are divided among columns, rows and frames. 'sequence': tokens are
            numbered in their order, and the number is encoded (VideoMAE's); see
            :func:`sequence_position_embedding`.

    Returns:
        Tensor: (1, T', H', W', C) float32 with T' = 1 for an image.

    Raises:
        ValueError: for another ``time``, or an odd or too small ``embed_dims``.
    """
    if time not in TIME_POSITIONS:
        raise ValueError(f"time='{time}' must be 'added', 'divided' or 'sequence'")
    if embed_dims < 2 * len(grid) or embed_dims % 2:
        raise ValueError(
            f'embed_dims={embed_dims} is too small or odd for a position embedding over '
            f'{len(grid)} axes: an even number of at least {2 * len(grid)} is needed'
        )
    if time == 'sequence' and len(grid) == 3:
        return sequence_position_embedding(embed_dims, grid)
    axes = grid if time == 'divided' else grid[-2:]
    share = embed_dims // len(axes) // 2 * 2
    widths = [embed_dims - share * (len(axes) - 1)]  # axis 0 gets what is left over
    widths += [share] * (len(axes) - 1)
    parts = []
    for axis, (length, width) in enumerate(zip(axes, widths, strict=True)):
        shape = [1] * len(axes) + [width]
        shape[axis] = length
        parts.append(sines_and_cosines(length, width).view(shape).expand(*axes, width))
    embedding = torch.cat(parts[::-1], dim=-1)
    if len(axes) < len(grid):
        code = sines_and_cosines(grid[0], embed_dims)
        embedding = embedding + (code - code.mean(0)).view(grid[0], 1, 1, embed_dims)
    return embedding.float().reshape(1, *((1,) * (3 - len(grid))), *grid, embed_dims)


def sequence_position_embedding(embed_dims: int, grid: tuple[int, int, int]) -> Tensor:
    """One-dimensional sine-cosine positions of the tokens of a clip, numbered in their order.

    Sines at even channels and cosines at odd ones, with frequencies from 1 down to 1/10000
    (Vaswani et al., 2017, section 3.5; VideoMAE's).

    Args:
        embed_dims (int): C, even.
        grid (tuple[int, int, int]): (T', H', W') in tokens.

    Returns:
        Tensor: (1, T', H', W', C) float32.
    """
    pair = torch.arange(embed_dims, dtype=torch.float64) // 2
    frequency = 10000 ** (-2 * pair / embed_dims)
    angle = torch.arange(math.prod(grid), dtype=torch.float64)[:, None] * frequency
    angle[:, 0::2].sin_()
    angle[:, 1::2].cos_()
    return angle.float().view(1, *grid, embed_dims)


def sines_and_cosines(length: int, width: int) -> Tensor:
    """Codes of the positions 0 to ``length`` - 1: (length, width) float64, sines first."""
    frequency = 10000 ** -(torch.arange(width // 2, dtype=torch.float64) / (width // 2))
    angle = torch.arange(length, dtype=torch.float64)[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def resize_position_embedding(
    embedding: Tensor, grid: tuple[int, int, int], mode: str = 'bicubic'
) -> Tensor:
    """Interpolate a position embedding to another token grid.

    Args:
        embedding (Tensor): (1, T', H', W', C).
        grid (tuple[int, int, int]): the wanted (T', H', W').
        mode (str): 'bicubic' or 'bilinear', for rows and columns. Frames are always
            interpolated linearly.

    Returns:
        Tensor: (1, *grid, C); the very ``embedding`` where the grid is the same already.
    """
    _, frames, *size, channels = embedding.shape
    if (frames, *size) == tuple(grid):
        return embedding
    x = embedding[0].float().permute(0, 3, 1, 2)  # (T', C, H', W')
    if tuple(size) != tuple(grid[1:]):
        x = F.interpolate(x, size=tuple(grid[1:]), mode=mode, align_corners=False)
    if frames != grid[0]:
        x = x.permute(2, 3, 1, 0).flatten(0, 1)  # (H' * W', C, T')
        x = F.interpolate(x, size=grid[0], mode='linear', align_corners=False)
        x = x.view(*grid[1:], channels, grid[0]).permute(3, 2, 0, 1)
    return x.permute(0, 2, 3, 1)[None].to(embedding.dtype)


class PatchEmbed(nn.Module):
    """Linear embedding of patches (cubes); masked ones are never touched.

    Args:
        in_channels (int): C_in of the input.
        embed_dims (int): width C of a token.
        patch_size (tuple[int, int, int]): frames, rows and columns of a patch.
        video (bool): whether the weight is that of a 3D convolution (C, C_in, t, p, p), or of a
            2D one (C, C_in, p, p). The shapes are those of mmaction2's and mmpretrain's.
    """

    def __init__(
        self, in_channels: int, embed_dims: int, patch_size: tuple[int, int, int], video: bool
    ) -> None:
        super().__init__()
        self.patch_size = tuple(patch_size)
        conv, kernel = (nn.Conv3d, patch_size) if video else (nn.Conv2d, patch_size[1:])
        self.projection = conv(in_channels, embed_dims, kernel, stride=kernel)

    def forward(self, x: Tensor, ids: Tensor | None = None) -> Tensor:
        """(B, C_in, T, H, W) and, optionally, (B, K) token indices to (B, K or N, C)."""
        patches = take_patches(x, self.patch_size, ids)
        return F.linear(patches, self.projection.weight.flatten(1), self.projection.bias)


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, embed_dims: int, num_heads: int) -> None:
        super().__init__()
        if embed_dims % num_heads:
            raise ValueError(f'embed_dims={embed_dims} is no multiple of num_heads={num_heads}')
        self.num_heads = num_heads
        self.qkv = nn.Linear(embed_dims, 3 * embed_dims)
        self.proj = nn.Linear(embed_dims, embed_dims)

    def forward(self, x: Tensor, mask: Tensor | None = None, last: int | None = None) -> Tensor:
        """(B, L, C) to (B, L, C).

        Args:
            x (Tensor): (B, L, C) tokens.
            mask (Tensor, optional): (B, 1, 1, L), True where a token may be looked at.
            last (int, optional): only so many tokens at the end look at the others, and are
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
        x = dot_product_attention(
            query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), mask
        )
        return self.proj(x.transpose(1, 2).flatten(2))


class TransformerBlock(nn.Module):
    """Pre-norm Transformer block, of encoder and decoders, on images and clips.

    Args:
        embed_dims (int): width C.
        num_heads (int): attention heads; divides C.
        mlp_ratio (float): hidden width of the MLP over C.
        drop_path (float): probability of leaving out a residual branch, in [0, 1).
        window_size (int): side of the attention windows in tokens; 0 attends globally. A window
            spans all frames. Each window sees a copy of the class token; the copies are averaged
            (our choice; ViTDet drops the class token).
        norm_eps (float): epsilon of the LayerNorms; MAE's and VideoMAE's is the default.

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
            x (Tensor): (B, L, C) tokens, class token first.
            grid (tuple[int, int, int], optional): (T', H', W'), needed where attention is windowed.
            last (int, optional): only so many tokens at the end are wanted, (B, last, C); attention
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


def cut_windows(x: Tensor, grid: tuple[int, int, int], window: int) -> tuple[Tensor, Tensor | None]:
    """Cut a token grid into square windows, padded at the lower and right end.

    Args:
        x (Tensor): (B, T' * H' * W', C).
        grid (tuple[int, int, int]): (T', H', W').
        window (int): side of a window in tokens.

    Returns:
        tuple: (B * windows, T' * window², C), and for the windows of one image (windows,
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


def init_transformer(module: nn.Module) -> None:
    """Initialise as MAE does: Xavier-uniform linear layers, zero biases. For ``Module.apply``."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, PatchEmbed):  # as the linear layer that it is
        nn.init.xavier_uniform_(module.projection.weight.view(len(module.projection.weight), -1))
        nn.init.zeros_(module.projection.bias)
