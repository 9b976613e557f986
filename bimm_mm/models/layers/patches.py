"""Images and clips as tokens, and back.

Tokens are counted frame by frame, and row by row within a frame: token ``(t, h, w)`` of a grid
``(T', H', W')`` has the index ``(t * H' + h) * W' + w``. An image is a grid with ``T' = 1``.
"""

import math

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn


def patchify(x: Tensor, patch_size: tuple[int, int, int], ids: Tensor | None = None) -> Tensor:
    """Cut images (clips) into patches (cubes), only those that are asked for.

    Args:
        x: (B, C, T, H, W); an image has T = 1.
        patch_size: Frames, rows and columns of a patch. Each must divide the size of ``x`` along
            its axis.
        ids: (B, K) token indices. All tokens when left out.

    Returns:
        (B, K, C * t * p * p), the values of a patch in the order channel, frame, row, column, as
        the weights of a convolution are.
    """
    batch, channels, *size = x.shape
    (t, gt), (h, gh), (w, gw) = ((p, s // p) for p, s in zip(patch_size, size, strict=True))
    x = x.view(batch, channels, gt, t, gh, h, gw, w).permute(0, 2, 4, 6, 1, 3, 5, 7)
    # x: (B, T', H', W', C, t, p, p)
    if ids is None:
        return x.reshape(batch, gt * gh * gw, -1)
    return x[unravel_ids(ids, gh, gw)].flatten(2)


def unpatchify(
    values: Tensor, patch_size: tuple[int, int, int], grid: tuple[int, int, int]
) -> Tensor:
    """Put patches (cubes) together: the inverse of :func:`patchify`.

    Args:
        values: (B, L, C * t * p * p), all tokens of the grid, the values of each in the order
            channel, frame, row, column.
        patch_size: Frames t, rows and columns p of a patch.
        grid: (T', H', W') in tokens, L in all.

    Returns:
        (B, C, T' * t, H' * p, W' * p).

    Raises:
        ValueError: ``values`` has another number of tokens, or of values per token.
    """
    volume = math.prod(patch_size)
    if values.shape[1] != math.prod(grid) or values.shape[2] % volume:
        raise ValueError(
            f'values of shape {tuple(values.shape)} must be (B, {math.prod(grid)}, n * {volume}) '
            f'for grid={tuple(grid)} and patch_size={tuple(patch_size)}'
        )
    x = values.reshape(len(values), *grid, -1, *patch_size).permute(0, 4, 1, 5, 2, 6, 3, 7)
    # x: (B, C, T', t, H', p, W', p)
    return x.flatten(6, 7).flatten(4, 5).flatten(2, 3)


def unravel_ids(ids: Tensor, rows: int, columns: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Unravel token indices (B, K) into sample (B, 1), frame, row and column (B, K) each.

    Args:
        ids: (B, K) token indices.
        rows, columns: Of the token grid.
    """
    samples = torch.arange(len(ids), device=ids.device)[:, None]
    return samples, ids // (rows * columns), ids // columns % rows, ids % columns


def scatter_tokens(values: Tensor, ids: Tensor, length: int) -> Tensor:
    """Put the values of some tokens, (B, M, D), into (B, length, D) float32; NaN elsewhere."""
    spread = values.new_full((len(values), length, values.shape[2]), math.nan, dtype=torch.float32)
    return spread.scatter(1, ids[..., None].expand_as(values), values.float())


def gather_tokens(x: Tensor, ids: Tensor) -> Tensor:
    """Pick tokens by index: (B, N, C) and (B, K) to (B, K, C)."""
    return x.gather(1, ids[..., None].expand(-1, -1, x.shape[2]))


def ids_to_mask(ids: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """Mark the tokens of a grid that are among ``ids`` (B, M): (B, T', H', W') bool."""
    mask = torch.zeros(len(ids), math.prod(grid), dtype=torch.bool, device=ids.device)
    return mask.scatter(1, ids, True).view(len(ids), *grid)


class PatchEmbed(nn.Module):
    """Linear embedding of patches (cubes); masked ones are never touched.

    Args:
        in_channels: C_in of the input.
        embed_dims: Width C of a token.
        patch_size: Frames, rows and columns of a patch.
        video: Whether the weight is that of a 3D convolution (C, C_in, t, p, p), or of a
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
        patches = patchify(x, self.patch_size, ids)
        return F.linear(patches, self.projection.weight.flatten(1), self.projection.bias)


@MODELS.register_module()
class CodeEmbed(nn.Module):
    """Embedding of the codes of a tokenizer, in place of :class:`PatchEmbed` (VIMPAC).

    A token is a code, or a cube of codes of consecutive frames, whose embeddings are added; each
    frame of a cube has embeddings of its own.

    Args:
        num_codes: V, the number of classes of the tokenizer.
        embed_dims: Width C of a token.
        patch_size: Frames t of a cube first; rows and columns are the tokenizer's business.
        video: Without effect.
    """

    input_name = 'codes'

    def __init__(
        self,
        num_codes: int,
        embed_dims: int,
        patch_size: tuple[int, int, int],
        video: bool = False,
    ) -> None:
        super().__init__()
        self.num_codes = num_codes
        self.frames = patch_size[0]
        self.codes = nn.Embedding(self.frames * num_codes, embed_dims)
        nn.init.normal_(self.codes.weight, std=0.02)

    def token_grid(self, codes: Tensor) -> tuple[int, int, int]:
        """(B, H', W') or (B, T, H', W') codes to the token grid (T', H', W')."""
        frames = codes.shape[1] if codes.dim() == 4 else 1
        if frames % self.frames:
            raise ValueError(f'{frames} frames of codes are not a multiple of {self.frames}')
        return (frames // self.frames, *codes.shape[-2:])

    def forward(self, codes: Tensor, ids: Tensor | None = None) -> Tensor:
        """(B, H', W') or (B, T, H', W') codes, and (B, K) token indices, to (B, K or N, C)."""
        codes = codes if codes.dim() == 4 else codes[:, None]
        cubes = patchify(codes[:, None], (self.frames, 1, 1), ids)  # (B, K, t)
        return self.codes(cubes + self.num_codes * torch.arange(self.frames).to(cubes)).sum(dim=2)
