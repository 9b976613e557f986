"""A regressor between encoder and decoders: CAE, and MAM2 on clips."""

import math
from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from ..layers import TransformerBlock, init_transformer, sincos_position_embedding
from ..layers.cross_attention import RegressorBlock


@MODELS.register_module()
class RegressorDecoder(BaseModule):
    """Predict the latents of masked tokens, from which several decoders read.

    The encoder only encodes: the regressor, cross-attention from mask queries to the visible
    latents and to the queries themselves, predicts latents of the masked tokens; each decoder turns
    these into its target. Visible latents are never updated, and decoders do not see them (CAE,
    Chen et al., 2022; MAM2, Song et al., 2022, whose sizes are not public).

    Args:
        decoders: Configs of the decoders, in the order of their targets: LatentDecoder, or
            IdentityDecoder for the alignment of latents.
        in_dims: Width of the encoder's tokens.
        out_dims: Values per token of each decoder's target.
        grid_size: Token grid (T', H', W').
        num_stages: Stages of the encoder, of which the last one is read.
        video: Whether the tokens are cubes of a clip.
        embed_dims: Width D of regressor and decoders (our choice: 384, the decoder of VideoMAE;
            CAE: the encoder's). Where it is not the encoder's, a linear layer and a LayerNorm
            stand between.
        depth: Blocks of the regressor (CAE: 4).
        num_heads: Attention heads (our choice: 6; CAE: the encoder's).
        mlp_ratio: Hidden width of MLPs over D (CAE: 4).
        drop_path: Probability of leaving out a residual branch (CAE: 0.1; our choice: 0).
        layer_scale: What residual branches are multiplied by at first (CAE: 0.1 for base, 1e-5 for
            large).
        time_positions: How the positions of clips hold the time: 'added' (our choice), 'divided',
            'sequence' (VideoMAE's) or 'none'; see :func:`sincos_position_embedding`.

    A branch fills in everything up to ``video``. Linear layers start Xavier-uniform, one of CAE's
    two ways; the other, a fixed spread of 0.02, is too small for narrow regressors. Output
    projections of block n are divided by √(2n) (CAE).

    Raises:
        ValueError: The encoder has several stages, which nothing would read.
    """

    def __init__(
        self,
        decoders: Sequence[dict],
        in_dims: int,
        out_dims: Sequence[int],
        grid_size: tuple[int, int, int],
        num_stages: int,
        video: bool = False,
        embed_dims: int = 384,
        depth: int = 4,
        num_heads: int = 6,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        layer_scale: float = 0.1,
        time_positions: str = 'added',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if num_stages != 1:
            raise ValueError(
                f'RegressorDecoder reads the last stage only, and the backbone has {num_stages}: '
                'set stage_ends=(depth,)'
            )
        if len(decoders) != len(out_dims):
            raise ValueError(
                f'decoders: {len(decoders)} of them for {len(out_dims)} targets; '
                'each target needs one decoder'
            )
        self.stages = (0,) * len(decoders)
        self.project = (
            nn.Identity()
            if embed_dims == in_dims
            else nn.Sequential(nn.Linear(in_dims, embed_dims), nn.LayerNorm(embed_dims, eps=1e-6))
        )
        self.mask_token = nn.Parameter(torch.zeros(1, 1, embed_dims))
        grid = tuple(grid_size) if video else tuple(grid_size)[1:]
        positions = sincos_position_embedding(embed_dims, grid, time_positions)
        self.register_buffer('pos_embed', positions)
        self.blocks = nn.ModuleList(
            RegressorBlock(embed_dims, num_heads, mlp_ratio, drop_path, layer_scale)
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(embed_dims, eps=1e-6)
        self.decoders = nn.ModuleList(
            MODELS.build(dict(decoder, embed_dims=embed_dims, out_dims=dims))
            for decoder, dims in zip(decoders, out_dims, strict=True)
        )
        self.apply(init_transformer)
        rescale_outputs([(block.attn.proj, block.mlp[-1]) for block in self.blocks])
        nn.init.trunc_normal_(self.mask_token, std=0.02)

    def forward(
        self, features: Sequence[Tensor], ids_keep: Tensor, ids_mask: Tensor
    ) -> tuple[Tensor, ...]:
        """Predict the targets of all decoders.

        Args:
            features: One stage, (B, [1 +] K, C); a class token is dropped.
            ids_keep: (B, K) visible tokens.
            ids_mask: (B, M) masked tokens.

        Returns:
            (B, M, out_dims) per decoder.
        """
        latents = self.regress(features[-1], ids_keep, ids_mask)
        positions = self.positions(ids_mask)
        return tuple(decoder(latents, positions) for decoder in self.decoders)

    def regress(self, x: Tensor, ids_keep: Tensor, ids_mask: Tensor) -> Tensor:
        """Predict latents of masked tokens: (B, [1 +] K, C) visible ones to (B, M, D).

        Raises:
            ValueError: The encoder returned other tokens than the visible ones.
        """
        if x.shape[1] - ids_keep.shape[1] not in (0, 1):
            raise ValueError(
                f'RegressorDecoder got {x.shape[1]} tokens, but needs the {ids_keep.shape[1]} '
                "visible ones and at most a class token: it needs an encoder with masked='dropped'"
            )
        visible = self.project(x[:, -ids_keep.shape[1] :])
        pos_visible, pos_masked = self.positions(ids_keep), self.positions(ids_mask)
        queries = self.mask_token.expand(len(x), ids_mask.shape[1], -1).to(visible.dtype)
        for block in self.blocks:
            queries = block(queries, visible, pos_masked, pos_visible)
        return self.norm(queries)

    def positions(self, ids: Tensor) -> Tensor:
        """Positions of the tokens ``ids`` (B, K): (B, K, D)."""
        return self.pos_embed.flatten(1, 3)[0, ids]

    def predicted_ids(self, ids_keep: Tensor, ids_mask: Tensor) -> tuple[Tensor, ...]:
        """The tokens which each decoder predicts: the masked ones."""
        return (ids_mask,) * len(self.decoders)


@MODELS.register_module()
class LatentDecoder(BaseModule):
    """Decode predicted latents: self-attention among the masked tokens alone (CAE).

    Args:
        embed_dims: Width D, the regressor's.
        out_dims: Number of values of the target per token.
        depth: Blocks (CAE: 4; CAE v2: 0, a linear layer).
        num_heads: Attention heads (our choice: 6; CAE: the encoder's).
        mlp_ratio: Hidden width of MLPs over D.
    """

    predicts = 'masked'

    def __init__(
        self,
        embed_dims: int,
        out_dims: int,
        depth: int = 4,
        num_heads: int = 6,
        mlp_ratio: float = 4.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.blocks = nn.ModuleList(
            TransformerBlock(embed_dims, num_heads, mlp_ratio) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(embed_dims, eps=1e-6)
        self.head = nn.Linear(embed_dims, out_dims)
        self.apply(init_transformer)
        rescale_outputs([(block.attn.proj, block.mlp.fc2) for block in self.blocks])

    def forward(self, latents: Tensor, positions: Tensor) -> Tensor:
        """(B, M, D) latents and positions of masked tokens to (B, M, out_dims)."""
        x = latents + positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


@MODELS.register_module()
class IdentityDecoder(BaseModule):
    """Give out the predicted latents as they are, for :class:`LatentTarget`.

    Args:
        embed_dims: Width D, the regressor's.
        out_dims: That of the target; must be D.
    """

    predicts = 'masked'

    def __init__(self, embed_dims: int, out_dims: int, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        if embed_dims != out_dims:
            raise ValueError(f'out_dims={out_dims} of the target must be {embed_dims}')

    def forward(self, latents: Tensor, positions: Tensor) -> Tensor:
        """(B, M, D) to (B, M, D)."""
        return latents


def rescale_outputs(outputs: Sequence[tuple[nn.Linear, ...]]) -> None:
    """Divide the output projections of block n, counted from 1, by √(2n) (CAE, BEiT)."""
    with torch.no_grad():
        for number, layers in enumerate(outputs, start=1):
            for layer in layers:
                layer.weight.div_(math.sqrt(2 * number))
