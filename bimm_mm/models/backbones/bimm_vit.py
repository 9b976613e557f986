"""The encoder of both branches: a plain Vision Transformer that is cut into stages."""

import logging
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...utils import draws
from ...utils.checkpoint import read_state
from ..checkpoints import describe_encoders
from ..hub import HubMixin
from ..layers import (
    TIME_POSITIONS,
    PatchEmbed,
    TransformerBlock,
    gather_tokens,
    ids_to_mask,
    init_transformer,
    resize_position_embedding,
    sincos_position_embedding,
)
from .arch import read_arch, read_out_indices, read_stage_ends
from .loading import INFLATIONS, fit_state_dict

MASKED = ('dropped', 'token')
OUT_TYPES = ('cls_token', 'avg_featmap', 'featmap', 'raw')


@MODELS.register_module()
class BimmViT(HubMixin, BaseModule):
    """Vision Transformer for images or clips, of which masked tokens never enter the encoder.

    With ``ids_keep`` it is the encoder of masked pretraining; without, a backbone for any
    OpenMMLab model.

    Args:
        arch: 'tiny', 'small', 'base', 'large', or a dict with ``embed_dims``,
            ``depth``, ``num_heads`` and optionally ``mlp_ratio`` (4).
        img_size: Height and width for which the position embedding is
            made, in pixels. Inputs of another size are fine: the embedding is interpolated.
        patch_size: Side of a patch in pixels.
        in_channels: Channels of the input.
        num_frames: Frames T of a clip. None makes an image encoder.
        tubelet_size: Frames of a cube; without effect on images.
        stage_ends: Number of blocks after which each stage ends;
            increasing, the last one is the depth. The default is the paper's 2, 4, 12 for
            twelve blocks, and the same fractions of another depth (our choice): 4, 8, 24.
        with_cls_token: Whether there is a class token, never masked (our choice).
        drop_path_rate: Stochastic depth, rising linearly from 0 to this over the blocks.
        out_type: 'cls_token' (B, C); 'avg_featmap' (B, C), the mean of the patch tokens;
            'featmap' (B, C, H', W') or (B, C, T', H', W'); 'raw' (B, 1 + L, C), class token
            first. Inputs are padded to whole patches for 'featmap', and must consist of whole
            patches for the others.
        norm_after_mean: Whether 'avg_featmap' takes the mean before the norm, as encoders do
            that MAE or VideoMAE finetuned, instead of the mean of normalized tokens.
        out_indices: Blocks, counted from 0 and negative from
            the end, whose outputs are returned; 'stages' for the last block of each stage. The
            last block by default. Each has a LayerNorm of its own, ``norm{index}``.
        window_size: Side of the attention windows in tokens, for dense tasks (ViTDet);
            0 means global attention everywhere.
        global_blocks: Blocks, counted from 0, that attend globally even where
            ``window_size`` is set.
        norm_eps: Epsilon of all LayerNorms. Encoders of transformers have 1e-12.
        time_positions: 'added', 'divided', 'sequence' (VideoMAE's) or 'none', how positions hold
            the time of a clip; see :func:`sincos_position_embedding`. Checkpoints have positions of
            their own, which hold.
        inflation: 'center' or 'mean', how a clip's patch embedding starts from an image's;
            see :func:`inflate_patch_embedding`.
        pos_interpolation: 'bicubic' or 'bilinear', of the position embedding.
        masked: What becomes of masked tokens in pretraining: 'dropped', they never enter the
            encoder (MAE), or 'token', a learned mask token takes their place before positions are
            added (BEiT).
        embedding: Config of the embedding; patches of pixels by default. ``dict(type='CodeEmbed',
            num_codes=...)`` embeds the codes of a tokenizer instead.
        with_cp: Recompute the blocks' activations in the backward pass, to save memory.
        frozen_stages: -1 trains everything, 0 freezes the patch embedding and class token,
            n freezes the first n stages as well. Frozen parts are in evaluation mode.
        static_images: Whether a video encoder also takes images (B, C, H, W), as static
            clips: the image is repeated ``num_frames`` times.
        deflate: Whether an image encoder takes the checkpoint of a video encoder. Its patch
            embedding is summed over the frames of a tubelet, and its positions are interpolated
            to a single time, the middle of the clip: the features are those of a static clip of
            one tubelet (our choice).
        init_cfg: As of every OpenMMLab module. A checkpoint may have norms of
            further blocks, which are left aside, and another grid of positions, which is
            interpolated; norms that it lacks start anew.

    Raises:
        ValueError: For a size, stage or index that does not fit; the message says what would.
            Also when weights are loaded that are not those of such an encoder.
    """

    def __init__(
        self,
        arch: str | dict = 'base',
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        in_channels: int = 3,
        num_frames: int | None = None,
        tubelet_size: int = 2,
        stage_ends: Sequence[int] | None = None,
        with_cls_token: bool = True,
        drop_path_rate: float = 0.0,
        out_type: str = 'cls_token',
        norm_after_mean: bool = False,
        out_indices: Sequence[int] | str | None = None,
        window_size: int = 0,
        global_blocks: Sequence[int] = (),
        norm_eps: float = 1e-6,
        time_positions: str = 'added',
        inflation: str = 'center',
        pos_interpolation: str = 'bicubic',
        masked: str = 'dropped',
        embedding: dict | None = None,
        with_cp: bool = False,
        frozen_stages: int = -1,
        static_images: bool = False,
        deflate: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        arch = read_arch(arch)
        self.embed_dims, self.depth = arch['embed_dims'], arch['depth']
        self.is_video = num_frames is not None
        self.patch_size = (tubelet_size if self.is_video else 1, patch_size, patch_size)
        self.in_channels = in_channels
        self.stage_ends = read_stage_ends(stage_ends, self.depth)
        self.num_stages = len(self.stage_ends)
        self.out_indices = read_out_indices(out_indices, self.stage_ends)
        self.out_type = out_type
        if out_type not in OUT_TYPES:
            raise ValueError(f"out_type='{out_type}' must be one of {', '.join(OUT_TYPES)}")
        if out_type == 'cls_token' and not with_cls_token:
            raise ValueError("out_type='cls_token' needs with_cls_token=True")
        if norm_after_mean and out_type != 'avg_featmap':
            raise ValueError(f"norm_after_mean needs out_type='avg_featmap', not '{out_type}'")
        self.norm_after_mean = norm_after_mean
        if not -1 <= frozen_stages <= self.num_stages:
            raise ValueError(f'frozen_stages={frozen_stages} must be -1 to {self.num_stages}')
        if not 0 <= drop_path_rate < 1:
            raise ValueError(f'drop_path_rate={drop_path_rate} must be at least 0 and less than 1')
        if not set(global_blocks) <= set(range(self.depth)):
            raise ValueError(
                f'global_blocks={tuple(global_blocks)} must be blocks, 0 to {self.depth - 1}'
            )
        if static_images and not self.is_video:
            raise ValueError('static_images=True needs a video encoder: set num_frames')
        if deflate and self.is_video:
            raise ValueError(f'deflate=True needs an image encoder, not num_frames={num_frames}')
        for name, value, known in (
            ('time_positions', time_positions, TIME_POSITIONS),
            ('inflation', inflation, INFLATIONS),
            ('masked', masked, MASKED),
        ):
            if value not in known:
                raise ValueError(f"{name}='{value}' must be {' or '.join(map(repr, known))}")
        self.time_positions = time_positions
        self.inflation = inflation
        self.masked = masked
        self.static_images = static_images
        self.deflate = deflate
        self.window_size = window_size
        self.frozen_stages = frozen_stages
        self.with_cp = with_cp
        self.pos_interpolation = pos_interpolation
        self._told = False

        size = (img_size, img_size) if isinstance(img_size, int) else tuple(img_size)
        self.grid_size = self.token_grid((num_frames or 1, *size))
        sizes = dict(embed_dims=self.embed_dims, patch_size=self.patch_size, video=self.is_video)
        self.patch_embed = (
            PatchEmbed(in_channels, **sizes)
            if embedding is None
            else MODELS.build(dict(embedding, **sizes))
        )
        grid = self.grid_size if self.is_video else self.grid_size[1:]
        positions = sincos_position_embedding(self.embed_dims, grid, time_positions)
        self.register_buffer('pos_embed', positions)
        self.cls_token = (
            nn.Parameter(torch.zeros(1, 1, self.embed_dims)) if with_cls_token else None
        )
        if masked == 'token':  # else there is no such parameter, as in checkpoints of old
            self.mask_token = nn.Parameter(torch.zeros(1, 1, self.embed_dims))
        rates = torch.linspace(0, drop_path_rate, self.depth, device='cpu').tolist()
        self.blocks = nn.ModuleList(
            TransformerBlock(
                self.embed_dims,
                arch['num_heads'],
                arch['mlp_ratio'],
                rate,
                0 if index in global_blocks else window_size,
                norm_eps,
            )
            for index, rate in enumerate(rates)
        )
        # what a checkpoint must have; remembered, as wrappers (FSDP) change names and shapes
        self.parameter_shapes = {name: tuple(p.shape) for name, p in self.named_parameters()}
        for index in self.out_indices:
            self.add_module(f'norm{index}', nn.LayerNorm(self.embed_dims, norm_eps))
        self.apply(init_transformer)
        if with_cls_token:
            nn.init.normal_(self.cls_token, std=0.02)
        if masked == 'token':
            nn.init.normal_(self.mask_token, std=0.02)
        self._freeze()
        self.register_load_state_dict_pre_hook(fit_state_dict)

    def init_weights(self) -> None:
        """Load what ``init_cfg`` names, if it names a checkpoint.

        Raises:
            ValueError: It has no such encoder; the message says which it has.
        """
        try:
            super().init_weights()
        except (ValueError, AssertionError) as error:  # mmengine asserts that the prefix is there
            if not isinstance(self.init_cfg, dict) or 'checkpoint' not in self.init_cfg:
                raise
            checkpoint = self.init_cfg['checkpoint']
            raise ValueError(
                f"init_cfg.checkpoint='{checkpoint}', prefix={self.init_cfg.get('prefix')!r}: "
                f'{error}. The file holds {describe_encoders(read_state(checkpoint))}'
            ) from error

    def forward(
        self, x: Tensor, ids_keep: Tensor | None = None, ids_mask: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Encode images (B, C, H, W) or clips (B, C, T, H, W).

        Args:
            x: The input, normalized; or what the ``embedding`` reads.
            ids_keep: (B, K) indices of the tokens to encode; only with
                ``out_type='raw'``. All tokens when left out.
            ids_mask: (B, M) indices of the tokens that a mask token replaces; only with
                ``masked='token'``. None when left out.

        Returns:
            One feature for each of ``out_indices``, shaped by ``out_type``.
        """
        if ids_keep is not None and self.out_type != 'raw':
            raise ValueError(f"ids_keep needs out_type='raw', not '{self.out_type}'")
        if ids_keep is not None and self.window_size:
            raise ValueError(f'ids_keep needs window_size=0, not {self.window_size}')
        if ids_mask is not None and self.masked != 'token':
            raise ValueError(f"ids_mask needs masked='token', not '{self.masked}'")
        x, grid = self.embed(x, ids_keep, ids_mask)
        outputs = []
        for index, block in enumerate(self.blocks[: self.out_indices[-1] + 1]):
            if self.with_cp and x.requires_grad:
                x = checkpoint(block, x, grid, **draws.checkpoint_settings())
            else:
                x = block(x, grid)
            if index in self.out_indices:
                norm = getattr(self, f'norm{index}')
                outputs.append(
                    norm(self._shape_output(x, grid))
                    if self.norm_after_mean
                    else self._shape_output(norm(x), grid)
                )
        return tuple(outputs)

    def embed(
        self, x: Tensor, ids_keep: Tensor | None = None, ids_mask: Tensor | None = None
    ) -> tuple[Tensor, tuple[int, int, int]]:
        """Tokens with their positions, class token first: (B, 1 + K, C), and the token grid."""
        if hasattr(self.patch_embed, 'input_name'):
            grid = self.patch_embed.token_grid(x)
        else:
            x = self._as_clip(x)
            grid = self.token_grid(tuple(x.shape[2:]))
        if grid != self.grid_size and not self._told:
            self._tell_interpolation(grid)
        positions = resize_position_embedding(self.pos_embed, grid, self.pos_interpolation)
        positions = positions.flatten(1, 3)  # (1, N, C)
        # tokens, mask tokens, positions; those that are not kept are not even embedded
        x = self.patch_embed(x, ids_keep if ids_mask is None else None)
        if ids_mask is not None:
            hidden = ids_to_mask(ids_mask, grid).flatten(1)[..., None]  # (B, N, 1)
            x = torch.where(hidden, self.mask_token.to(x.dtype), x)
            x = x if ids_keep is None else gather_tokens(x, ids_keep)
        x = x + (positions if ids_keep is None else positions[0, ids_keep])
        if self.cls_token is not None:
            # x.shape[0], as torch.export takes len(x) for a constant; viewed as a vector, so that
            # its gradient is summed, even for one sample, and as contiguous as DDP wants it
            cls = self.cls_token.view(-1).expand(x.shape[0], 1, -1)
            x = torch.cat([cls.to(x.dtype), x], dim=1)
        return x, grid

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Layer of a parameter and number of layers, for layer-wise lr decay as in mmpretrain.

        Layer 0 embeds (patches, positions, class token), block b is layer b + 1, and norms belong
        to the last layer, as heads do (parameters whose name does not start with ``prefix``).
        """
        kind, *rest = param_name.removeprefix(prefix).split('.')
        if not param_name.startswith(prefix) or kind.startswith('norm'):
            return self.depth + 1, self.depth + 2
        return (int(rest[0]) + 1 if kind == 'blocks' else 0), self.depth + 2

    def token_grid(self, size: tuple[int, int, int]) -> tuple[int, int, int]:
        """(T, H, W) in frames and pixels to (T', H', W') in tokens."""
        names = ('num_frames', 'img_size (height)', 'img_size (width)')
        for name, length, patch in zip(names, size, self.patch_size, strict=True):
            if length < 1 or length % patch:
                raise ValueError(
                    f'{name}={length} is not a multiple of the patch ({patch}): '
                    f'{length // patch * patch or patch} or {(length // patch + 1) * patch} is'
                )
        return tuple(length // patch for length, patch in zip(size, self.patch_size, strict=True))

    def train(self, mode: bool = True) -> 'BimmViT':
        """Set the training mode, but leave frozen stages in evaluation mode."""
        super().train(mode)
        for module in self._frozen_modules():
            module.eval()
        return self

    def _tell_interpolation(self, grid: tuple[int, int, int]) -> None:
        """Say once that inputs are of another size than the encoder was made for."""
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            return
        self._told = True
        given, made = (
            'x'.join(str(n * p) for n, p in zip(g, self.patch_size, strict=True))
            for g in (grid, self.grid_size)
        )
        cost = math.prod(grid) / math.prod(self.grid_size)
        print_log(
            f'Inputs of {given} (frames, height, width), an encoder made for {made}: positions are '
            f'interpolated, and there are {cost:.3g} times as many tokens. If that is not meant, '
            'set img_size and num_frames of the backbone, or the sizes in the pipeline',
            logger='current',
            level=logging.WARNING,
        )

    def _as_clip(self, x: Tensor) -> Tensor:
        """(B, C, H, W) or (B, C, T, H, W) to the latter, padded where the output is a map."""
        if self.static_images and x.dim() == 4:
            frames = self.grid_size[0] * self.patch_size[0]
            x = x[:, :, None].expand(-1, -1, frames, -1, -1)
        dims = 5 if self.is_video else 4
        if x.dim() != dims or x.shape[1] != self.in_channels:
            wanted = '(B, {}, T, H, W)' if self.is_video else '(B, {}, H, W)'
            raise ValueError(
                f'the input has shape {tuple(x.shape)}, but this '
                f'{"video" if self.is_video else "image"} encoder needs '
                f'{wanted.format(self.in_channels)}'
            )
        x = x if self.is_video else x[:, :, None]
        if self.out_type == 'featmap':
            padding = [
                -length % patch
                for length, patch in zip(x.shape[3:], self.patch_size[1:], strict=True)
            ]
            x = F.pad(x, (0, padding[1], 0, padding[0]))
        return x

    def _shape_output(self, x: Tensor, grid: tuple[int, int, int]) -> Tensor:
        if self.out_type == 'raw':
            return x
        if self.out_type == 'cls_token':
            return x[:, 0]
        x = x[:, -math.prod(grid) :]
        if self.out_type == 'avg_featmap':
            return x.mean(dim=1)
        size = grid if self.is_video else grid[1:]
        # mmcv's RoIAlign takes the memory to be (B, C, H, W), whatever the strides say
        return x.transpose(1, 2).contiguous().view(len(x), self.embed_dims, *size)

    def _frozen_modules(self) -> list[nn.Module]:
        if self.frozen_stages < 0:
            return []
        blocks = self.stage_ends[self.frozen_stages - 1] if self.frozen_stages else 0
        norms = [getattr(self, f'norm{index}') for index in self.out_indices if index < blocks]
        return [self.patch_embed, *self.blocks[:blocks], *norms]

    def _freeze(self) -> None:
        for module in self._frozen_modules():
            module.eval().requires_grad_(False)
        if self.frozen_stages >= 0 and self.cls_token is not None:
            self.cls_token.requires_grad_(False)
