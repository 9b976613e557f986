"""The lightweight decoders of the stages. They are thrown away after pretraining."""

import math

import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from ..layers import (
    TransformerBlock,
    gather_tokens,
    init_transformer,
    sincos_position_embedding,
)
from ..targets import BaseTarget


class StageDecoder(BaseModule):
    """What the decoders of a stage share: width, mask token and positions.

    Args:
        in_dims: Width of the encoder's tokens.
        out_dims: Number of values of the target per token.
        grid_size: Token grid (T', H', W').
        embed_dims: Width W of the decoder.
        video: Whether the tokens are cubes of a clip, whose positions hold the time, too.
        time_positions: How they hold it: 'added' (our choice), 'divided', 'sequence' (VideoMAE's)
            or 'none'; see :func:`sincos_position_embedding`.
    """

    predicts = 'masked'

    def __init__(
        self,
        in_dims: int,
        out_dims: int,
        grid_size: tuple[int, int, int],
        embed_dims: int,
        video: bool,
        time_positions: str = 'added',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.embed_dims = embed_dims
        self.out_dims = out_dims
        self.grid_size = tuple(grid_size)
        self.embed = nn.Linear(in_dims, embed_dims)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, embed_dims))
        nn.init.normal_(self.mask_token, std=0.02)
        grid = self.grid_size if video else self.grid_size[1:]
        positions = sincos_position_embedding(embed_dims, grid, time_positions)
        self.register_buffer('pos_embed', positions)

    def split_tokens(self, x: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Split (B, [1 +] count, C) into the class token (B, 0 or 1, C) and the others.

        Raises:
            ValueError: There are more or fewer tokens.
        """
        if x.shape[1] - count not in (0, 1):
            raise ValueError(
                f'{type(self).__name__} got {x.shape[1]} tokens, but needs {count} and at most a '
                "class token. An encoder with masked='token' returns all tokens, and needs a "
                'PickDecoder'
            )
        return x[:, :-count], x[:, -count:]

    def positions(self) -> Tensor:
        """(1, T' * H' * W', W), the position of every token of the grid."""
        return self.pos_embed.flatten(1, 3)

    @property
    def output(self) -> str:
        """Name of the last layer, of which each output is a value of the target."""
        return f'head.{len(self.head) - 1}' if isinstance(self.head, nn.Sequential) else 'head'

    @property
    def heads(self) -> list[int]:
        """Attention heads of each block, which no weight shows."""
        return [block.attn.num_heads for block in getattr(self, 'blocks', ())]

    def start_from_images(self, source: 'StageDecoder', target: BaseTarget | None) -> bool:
        """Take over the weights of a decoder for images, if it has the same shape.

        Left out are positions, the mixing over time, and the last layer of another target.

        Args:
            source: Of the same class, for images.
            target: What this decoder predicts, if ``source`` does, too. Of
                values that are those of pixels, each frame is given what the image has.

        Returns:
            Whether the weights were taken over.
        """
        left = ('pos_embed', 'mix_time.', f'{self.output}.')
        own, taken = (
            {k: v for k, v in decoder.state_dict().items() if not k.startswith(left)}
            for decoder in (self, source)
        )
        if (self.output, self.heads) != (source.output, source.heads) or own.keys() != taken.keys():
            return False
        if any(own[key].shape != taken[key].shape for key in own):
            return False
        if target is not None:
            mine, last = self.get_submodule(self.output), source.get_submodule(source.output)
            for key, value in last.state_dict().items():
                frames, *sides = target.patch_size
                if target.per_pixel and len(value) % math.prod(sides) == 0:
                    value = value.unflatten(0, (-1, 1, math.prod(sides)))
                    value = value.repeat_interleave(frames, dim=1).flatten(0, 2)
                if value.shape == getattr(mine, key).shape:
                    taken[f'{self.output}.{key}'] = value
        self.load_state_dict(taken, strict=False)
        return True


@MODELS.register_module()
class LinearDecoder(StageDecoder):
    """Predict with a few linear layers (paper: the decoder of stage V1).

    The paper's loss is on masked patches; how linear layers, which see single tokens, reach them it
    does not say. docs/evidence.md compares both ways at a small size.

    Args:
        embed_dims: Width (our choice: 256).
        predict: 'masked' (paper: section 3.2): mask tokens and positions are put into the grid, a
            linear layer mixes the tokens over space, another one over time, which starts as the
            identity, and then the channels are mapped to the target (our choice). Or 'visible':
            each visible token is mapped to the target of its own patch.
    """

    def __init__(self, *args, embed_dims: int = 256, predict: str = 'masked', **kwargs) -> None:
        super().__init__(*args, embed_dims=embed_dims, **kwargs)
        if predict not in ('masked', 'visible'):
            raise ValueError(f"predict='{predict}' must be 'visible' or 'masked'")
        self.predicts = predict
        if predict == 'masked':
            frames, area = self.grid_size[0], math.prod(self.grid_size[1:])
            self.mix_space = nn.Linear(area, area)
            self.mix_time = nn.Linear(frames, frames) if frames > 1 else nn.Identity()
        else:
            self.mask_token = None
        self.head = nn.Linear(embed_dims, self.out_dims)
        self.apply(init_transformer)
        if predict == 'masked' and frames > 1:
            nn.init.eye_(self.mix_time.weight)

    def forward(self, x: Tensor, ids_keep: Tensor, ids_mask: Tensor) -> Tensor:
        """(B, [1 +] K, C) visible tokens to (B, M or K, out_dims) predictions."""
        cls, x = self.split_tokens(self.embed(x), ids_keep.shape[1])
        if self.predicts == 'visible':
            return self.head(x)
        frames, area = self.grid_size[0], math.prod(self.grid_size[1:])
        grid = self.mask_token.to(x.dtype).expand(len(x), frames * area, -1)
        grid = grid.scatter(1, ids_keep[..., None].expand_as(x), x) + self.positions()
        if cls.shape[1]:  # the class token has no place in the grid: all tokens get it
            grid = grid + cls
        grid = self.mix_space(grid.view(len(x), frames, area, -1).transpose(2, 3))  # (B, T', W, A)
        grid = self.mix_time(grid.transpose(1, 3)).permute(0, 3, 1, 2).flatten(1, 2)  # (B, N, W)
        return self.head(gather_tokens(grid, ids_mask))


@MODELS.register_module()
class TransformerDecoder(StageDecoder):
    """Predict masked tokens with Transformer blocks (paper: the decoders of V2, V4 and MT).

    Args:
        embed_dims: Width (our choice: 256 for V2, 384 for V4 and MT, as VideoMAE).
        depth: Blocks (our choice: 1 for V2, 4 for V4 and MT).
        num_heads: Heads (our choice: 8 for V2, 6 for V4 and MT).
        mlp_ratio: Hidden width of the blocks' MLP over their width.
        mlp_head: Whether an MLP with one hidden layer of the decoder's width predicts the
            patch (paper), or a linear layer (MAE, VideoMAE).
    """

    def __init__(
        self,
        *args,
        embed_dims: int = 384,
        depth: int = 4,
        num_heads: int = 6,
        mlp_ratio: float = 4.0,
        mlp_head: bool = True,
        **kwargs,
    ) -> None:
        super().__init__(*args, embed_dims=embed_dims, **kwargs)
        self.blocks = nn.ModuleList(
            TransformerBlock(embed_dims, num_heads, mlp_ratio) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(embed_dims, eps=1e-6)
        head = [nn.Linear(embed_dims, self.out_dims)]
        if mlp_head:
            head = [nn.Linear(embed_dims, embed_dims), nn.GELU(), *head]
        self.head = nn.Sequential(*head)
        self.apply(init_transformer)

    def forward(self, x: Tensor, ids_keep: Tensor, ids_mask: Tensor) -> Tensor:
        """(B, [1 +] K, C) visible tokens to (B, M, out_dims) predictions of the masked ones."""
        positions = self.positions()[0]
        cls, x = self.split_tokens(self.embed(x), ids_keep.shape[1])
        x = torch.cat([cls, x + positions[ids_keep], self.mask_token + positions[ids_mask]], dim=1)
        masked = ids_mask.shape[1]
        for index, block in enumerate(self.blocks, 1):  # visible tokens are not needed at the end
            x = block(x, last=masked if index == len(self.blocks) else None)
        return self.head(self.norm(x[:, -masked:]))


@MODELS.register_module()
class PickDecoder(BaseModule):
    """Predict masked tokens from what the encoder made of their mask tokens (BEiT).

    For encoders with ``masked='token'``, which return all tokens: those at the masked places are
    picked, and a linear layer maps each to its target.

    Args:
        in_dims: Width of the encoder's tokens.
        out_dims: Number of values of the target per token.
        grid_size: Token grid (T', H', W').
        video: Without effect; every decoder is told.
    """

    predicts = 'masked'

    def __init__(
        self,
        in_dims: int,
        out_dims: int,
        grid_size: tuple[int, int, int],
        video: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.grid_size = tuple(grid_size)
        self.head = nn.Linear(in_dims, out_dims)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor, ids_keep: Tensor, ids_mask: Tensor) -> Tensor:
        """(B, [1 +] N, C) tokens to (B, M, out_dims) predictions of the masked ones.

        Raises:
            ValueError: It does not get all tokens of the grid.
        """
        count = math.prod(self.grid_size)
        if x.shape[1] - count not in (0, 1):
            raise ValueError(
                f'PickDecoder got {x.shape[1]} tokens, but needs all {count} and at most a class '
                "token: give the backbone masked='token'"
            )
        return self.head(gather_tokens(x[:, -count:], ids_mask))
