"""Position embeddings: fixed sine-cosine codes, and their interpolation."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# how positions hold the time of a clip
TIME_POSITIONS = ('added', 'divided', 'sequence', 'none')


def sincos_position_embedding(
    embed_dims: int, grid: tuple[int, ...], time: str = 'added'
) -> Tensor:
    """Fixed sine-cosine position embedding of the tokens of an image or a clip.

    An image's channels are divided among columns and rows, in this order (as in MAE). Each part
    holds the sines, then the cosines, of the position times frequencies from 1 down to 1/10000.

    Args:
        embed_dims: C, even and at least 2 per axis.
        grid: (H', W') of an image or (T', H', W') of a clip, in tokens.
        time: How the positions of a clip hold the time. 'added': a code of the time, in all
            channels and 0 on average over the clip, is added to the position in the image (our
            choice), so that an encoder of images finds the places where it knows them. 'divided':
            the channels are divided among columns, rows and frames. 'sequence': tokens are
            numbered in their order, and the number is encoded (VideoMAE's); see
            :func:`sequence_position_embedding`. 'none': all frames have the positions of the image.

    Returns:
        (1, T', H', W', C) float32 with T' = 1 for an image.

    Raises:
        ValueError: For another ``time``, or an odd or too small ``embed_dims``.
    """
    if time not in TIME_POSITIONS:
        raise ValueError(f"time='{time}' must be 'added', 'divided', 'sequence' or 'none'")
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
        code = torch.zeros_like(code) if time == 'none' else code - code.mean(0)
        embedding = embedding + code.view(grid[0], 1, 1, embed_dims)
    return embedding.float().reshape(1, *((1,) * (3 - len(grid))), *grid, embed_dims)


def sines_and_cosines(length: int, width: int) -> Tensor:
    """Codes of the positions 0 to ``length`` - 1: (length, width) float64, sines first."""
    frequency = 10000 ** -(torch.arange(width // 2, dtype=torch.float64) / (width // 2))
    angle = torch.arange(length, dtype=torch.float64)[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def sequence_position_embedding(embed_dims: int, grid: tuple[int, int, int]) -> Tensor:
    """One-dimensional sine-cosine positions of the tokens of a clip, numbered in their order.

    Sines at even channels and cosines at odd ones, with frequencies from 1 down to 1/10000
    (Vaswani et al., 2017, section 3.5; VideoMAE's).

    Args:
        embed_dims: C, even.
        grid: (T', H', W') in tokens.

    Returns:
        (1, T', H', W', C) float32.
    """
    pair = torch.arange(embed_dims, dtype=torch.float64) // 2
    frequency = 10000 ** (-2 * pair / embed_dims)
    angle = torch.arange(math.prod(grid), dtype=torch.float64)[:, None] * frequency
    angle[:, 0::2].sin_()
    angle[:, 1::2].cos_()
    return angle.float().view(1, *grid, embed_dims)


def resize_position_embedding(
    embedding: Tensor, grid: tuple[int, int, int], mode: str = 'bicubic'
) -> Tensor:
    """Interpolate a position embedding to another token grid.

    Args:
        embedding: (1, T', H', W', C).
        grid: The wanted (T', H', W').
        mode: 'bicubic' or 'bilinear', for rows and columns. Frames are always
            interpolated linearly.

    Returns:
        (1, *grid, C); the very ``embedding`` where the grid is the same already.
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
