"""Positions: those of a checkpoint, laid out over the token grid, and those that it computes."""

import math
from dataclasses import dataclass

from torch import Tensor

from ..layers import sequence_position_embedding


@dataclass
class Settings:
    """What weights do not tell; None where it is not known.

    Attributes:
        num_frames: Of a clip; 16 where the weights do not tell it either.
        img_size: Height and width; 224 likewise, or a square.
        num_heads: Of the encoder; that of the known ViT of its width.
        decoder_num_heads: Likewise.
        norm_pixels: Whether its pretraining normalized the pixels of a patch.
        norm_eps: Epsilon of the encoder's LayerNorms; that of the layout.
    """

    num_frames: int | None = None
    img_size: tuple[int, int] | None = None
    num_heads: int | None = None
    decoder_num_heads: int | None = None
    norm_pixels: bool | None = None
    norm_eps: float | None = None


def patch_of(weight: Tensor) -> tuple[int, int, int]:
    """Frames, rows and columns of a patch from the weight of the patch embedding."""
    return (weight.shape[2] if weight.dim() == 5 else 1, *weight.shape[-2:])


def convert_positions(
    parts: dict[str, Tensor],
    weight: Tensor,
    settings: Settings,
    notes: list[str],
    with_cls_token: bool,
) -> tuple[Tensor, Tensor | None]:
    """Take the positions out of ``parts``, or compute VideoMAE's.

    Args:
        parts: Weights under the names of :mod:`.layouts`.
        weight: Of the patch embedding.
        settings: The input's size, where the number of positions does not tell it.
        notes: Gets a sentence where positions are computed.
        with_cls_token: Whether there is a class token, whose position is the first.

    Returns:
        (1, T', H', W', C); and what is added to the class token, (1, 1, C) or None.

    Raises:
        ValueError: The number of positions fits no grid.
    """
    patch = patch_of(weight)
    if 'pos_embed_spatial' in parts:
        space, time = parts.pop('pos_embed_spatial'), parts.pop('pos_embed_temporal')
        grid = (time.shape[1], *_rows_and_columns(space.shape[1], patch, settings))
        positions = time[0, :, None] + space[0][None]
        return positions.view(1, *grid, -1), parts.pop('pos_embed_class', None)
    frames = (settings.num_frames or 16) // patch[0] if weight.dim() == 5 else 1
    if 'pos_embed' in parts:
        positions = parts.pop('pos_embed')
        # the first is the class token's, unless they are a whole grid without it
        whole = settings.img_size and _is_grid(positions.shape[1], frames, patch, settings)
        first = int(with_cls_token and not whole)
        tokens = positions.shape[1] - first
        if tokens % frames:
            raise ValueError(
                f'{tokens} positions are not a multiple of {frames} cubes along time: give '
                '--num-frames'
            )
        grid = (frames, *_rows_and_columns(tokens // frames, patch, settings))
        added = positions[:, :first] if first else None
        return positions[:, first:].reshape(1, *grid, -1), added
    if weight.dim() == 4:
        raise ValueError('the checkpoint has no positions (pos_embed)')
    height, width = settings.img_size or (224, 224)
    notes.append(
        'its positions are not in the file; they were computed as VideoMAE does, for '
        f'{frames * patch[0]} frames of {height}x{width} pixels (--num-frames, --img-size)'
    )
    grid = (frames, height // patch[1], width // patch[2])
    return sequence_position_embedding(weight.shape[0], grid), None


def _is_grid(tokens: int, frames: int, patch: tuple[int, int, int], settings: Settings) -> bool:
    """Whether so many tokens are ``frames`` squares, or as the settings say."""
    area, rest = divmod(tokens, frames)
    if settings.img_size:
        rows, columns = (s // p for s, p in zip(settings.img_size, patch[1:], strict=True))
        return not rest and area == rows * columns
    return not rest and math.isqrt(area) ** 2 == area


def _rows_and_columns(
    area: int, patch: tuple[int, int, int], settings: Settings
) -> tuple[int, int]:
    """Rows and columns of the token grid from their product."""
    if not _is_grid(area, 1, patch, settings):
        given = f'--img-size {settings.img_size}' if settings.img_size else 'a square image'
        raise ValueError(
            f'{area} positions per frame do not fit {given} with patches of {patch[1:]} pixels: '
            'give --img-size, and --num-frames for clips'
        )
    if settings.img_size:
        return tuple(s // p for s, p in zip(settings.img_size, patch[1:], strict=True))
    return math.isqrt(area), math.isqrt(area)
