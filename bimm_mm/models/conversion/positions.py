"""Positions: those of a checkpoint, laid out over the token grid, and those that it computes."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Settings:
    """What weights do not tell; None where it is not known.

    Attributes:
        num_frames (int, optional): of a clip; 16 where the weights do not tell it either.
        img_size (tuple[int, int], optional): height and width; 224 likewise, or a square.
        num_heads (int, optional): of the encoder; that of the known ViT of its width.
        decoder_num_heads (int, optional): likewise.
        norm_pixels (bool, optional): whether its pretraining normalised the pixels of a patch.
    """

    num_frames: int | None = None
    img_size: tuple[int, int] | None = None
    num_heads: int | None = None
    decoder_num_heads: int | None = None
    norm_pixels: bool | None = None


def sinusoid_positions(grid: tuple[int, int, int], embed_dims: int) -> Tensor:
    """One-dimensional sine-cosine positions over the tokens of a clip, counted in their order.

    Sines at even channels and cosines at odd ones, with frequencies from 1 down to 1/10000
    (Vaswani et al., 2017, section 3.5, as VideoMAE takes it).

    Args:
        grid: (T', H', W') in tokens.
        embed_dims: C.

    Returns:
        Tensor: (1, T', H', W', C) float32.
    """
    pair = torch.arange(embed_dims, dtype=torch.float64) // 2
    frequency = 10000 ** (-2 * pair / embed_dims)
    angle = torch.arange(math.prod(grid), dtype=torch.float64)[:, None] * frequency
    angle[:, 0::2].sin_()
    angle[:, 1::2].cos_()
    return angle.float().view(1, *grid, embed_dims)


def convert_positions(
    parts: dict[str, Tensor],
    weight: Tensor,
    patch: tuple[int, int, int],
    settings: Settings,
    notes: list[str],
    with_cls_token: bool,
) -> tuple[Tensor, Tensor | None, tuple[int, int, int]]:
    """Positions (1, T', H', W', C), what is added to the class token, and the token grid."""
    video = weight.dim() == 5
    if 'pos_embed_spatial' in parts:
        spatial, temporal = parts.pop('pos_embed_spatial'), parts.pop('pos_embed_temporal')
        cls = parts.pop('pos_embed_class', None)
        grid = (temporal.shape[1], *_square(spatial.shape[1], patch, settings))
        positions = temporal[0, :, None] + spatial[0][None]
        return positions.view(1, *grid, -1), cls, grid
    if 'pos_embed' in parts:
        positions = parts.pop('pos_embed')
        frames = (settings.num_frames or 16) // patch[0] if video else 1
        length = positions.shape[1]
        # with or without one for the class token, which decides itself by what is a whole grid
        first = length % frames if with_cls_token else 0
        if with_cls_token and not first and not _fits(length // frames, patch, settings):
            first = 1
        tokens = length - first
        if tokens % frames:
            raise ValueError(
                f'{tokens} positions are no multiple of {frames} cubes along time: give '
                '--num-frames'
            )
        grid = (frames, *_square(tokens // frames, patch, settings))
        cls = positions[:, :first] if first else None
        return positions[:, first:].reshape(1, *grid, -1), cls, grid
    if not video:
        raise ValueError('the checkpoint has no positions (pos_embed)')
    frames, (height, width) = settings.num_frames or 16, settings.img_size or (224, 224)
    grid = (frames // patch[0], height // patch[1], width // patch[2])
    notes.append(
        f'its positions are not in the file; they were computed as VideoMAE does, for {frames} '
        f'frames of {height}x{width} pixels (--num-frames, --img-size)'
    )
    return sinusoid_positions(grid, weight.shape[0]), None, grid


def _fits(area: int, patch: tuple[int, int, int], settings: Settings) -> bool:
    if settings.img_size:
        return area == math.prod(s // p for s, p in zip(settings.img_size, patch[1:], strict=True))
    return math.isqrt(area) ** 2 == area


def _square(area: int, patch: tuple[int, int, int], settings: Settings) -> tuple[int, int]:
    """Rows and columns of the token grid from their product: a square, or as the settings say."""
    if not _fits(area, patch, settings):
        given = f'--img-size {settings.img_size}' if settings.img_size else 'a square image'
        raise ValueError(
            f'{area} positions per frame do not fit {given} with patches of {patch[1:]} pixels: '
            'give --img-size, and --num-frames for clips'
        )
    if settings.img_size:
        return tuple(s // p for s, p in zip(settings.img_size, patch[1:], strict=True))
    return math.isqrt(area), math.isqrt(area)
