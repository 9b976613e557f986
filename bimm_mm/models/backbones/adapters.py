"""Encoders between the toolkit and mmpretrain: ours in its MAE, its Transformers in our branches.

What a :class:`Branch` asks of an encoder is ``embed_dims``, ``patch_size`` and ``grid_size`` (over
frames, rows, columns), ``depth``, ``stage_ends``, ``num_stages``, ``is_video``, the constructor's
arguments ``out_type`` and ``out_indices``, and ``forward(x, ids_keep)``.
"""

import inspect
from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from .arch import read_stage_ends

NEEDED = ('patch_embed', 'patch_resolution', 'pos_embed', 'drop_after_pos', 'layers', 'norm1')


@MODELS.register_module()
class MaskedEncoder(BaseModule):
    """An encoder and its masking, as the backbone of mmpretrain's MAE.

    Args:
        encoder: Config of :class:`BimmViT`, for images and with a class token.
        masking: Config of the masking.
    """

    def __init__(self, encoder: dict, masking: dict, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.encoder = MODELS.build(dict(encoder, out_type='raw'))
        if self.encoder.is_video or self.encoder.cls_token is None:
            raise ValueError(
                'encoder: MAE needs one of images (num_frames=None), with_cls_token=True'
            )
        self.masking = MODELS.build(masking)

    def forward(
        self, x: Tensor, mask: bool | None = True
    ) -> tuple[Tensor, Tensor, Tensor] | tuple[Tensor, ...]:
        """Encode images (B, 3, H, W), masked or not.

        Returns:
            With ``mask``, the visible tokens (B, 1 + K, C), class token first; the mask
            (B, L) float, 1 where a token is masked; and ``ids_restore`` (B, L): the place of each
            token among the visible ones followed by the masked ones. Else the features of the
            encoder.
        """
        if not mask:
            return self.encoder(x)
        ids_keep, ids_mask = self.masking(len(x), self.encoder.grid_size, x.device)
        latent = self.encoder(x, ids_keep)[-1]
        ids = torch.cat([ids_keep, ids_mask], dim=1)
        masked = torch.zeros(ids.shape, device=x.device).scatter_(1, ids_mask, 1.0)
        return latent, masked, ids.argsort(dim=1)


@MODELS.register_module()
class MmpretrainEncoder(BaseModule):
    """A Vision Transformer of mmpretrain as the image encoder of a branch.

    Those will do that add a position embedding to their tokens and whose layers are called with
    the tokens alone: VisionTransformer, MAEViT, MoCoV3ViT, DeiT3 and the like. Its own outputs
    (``out_type``, ``out_indices``) are without effect here, and masked tokens are embedded before
    they are dropped. Blocks are shared with no other branch: ``share='none'``.

    Args:
        vit: Config of the backbone, as ``dict(type='mmpretrain.VisionTransformer')``.
        stage_ends: Number of layers after which each stage ends, the
            last one being all of them; by default as :class:`BimmViT` has it. Each stage but the
            last, which has the backbone's own norm, gets a LayerNorm.
        out_type, out_indices: What a branch demands, 'raw' and 'stages', and nothing else.

    Raises:
        ValueError: The backbone is of another kind, or ``stage_ends`` does not fit.
    """

    is_video = False

    def __init__(
        self,
        vit: dict,
        stage_ends: Sequence[int] | None = None,
        out_type: str = 'raw',
        out_indices: str = 'stages',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if (out_type, out_indices) != ('raw', 'stages'):
            raise ValueError(
                f"out_type='{out_type}' and out_indices={out_indices!r} must be 'raw' and 'stages'"
            )
        self.vit = MODELS.build(vit)
        self._check_kind(vit['type'])
        self.embed_dims = self.vit.embed_dims
        self.depth = len(self.vit.layers)
        self.grid_size = (1, *self.vit.patch_resolution)
        self.patch_size = (1, *self.vit.patch_embed.projection.kernel_size)
        self.stage_ends = read_stage_ends(stage_ends, self.depth)
        self.num_stages = len(self.stage_ends)
        self.norms = nn.ModuleList(
            nn.LayerNorm(self.embed_dims, eps=1e-6) for _ in self.stage_ends[1:]
        )

    def forward(self, x: Tensor, ids_keep: Tensor | None = None) -> tuple[Tensor, ...]:
        """Encode images (B, 3, H, W) of the size that the backbone is made for.

        Args:
            x: The input, normalized.
            ids_keep: (B, K) indices of the visible tokens; all when left out.

        Returns:
            (B, [1 +] K, C) for each stage, class token first.
        """
        vit = self.vit
        x, resolution = vit.patch_embed(x)
        if tuple(resolution) != self.grid_size[1:]:
            raise ValueError(
                f'the input has {tuple(resolution)} patches, but vit.img_size gives '
                f'{self.grid_size[1:]}'
            )
        extra = vit.pos_embed.shape[1] - x.shape[1]  # a position for the class token, or none
        x = x + vit.pos_embed[:, extra:]
        if ids_keep is not None:
            x = x.gather(1, ids_keep[..., None].expand(-1, -1, self.embed_dims))
        if vit.cls_token is not None:
            cls = vit.cls_token + vit.pos_embed[:, :1] if extra else vit.cls_token
            x = torch.cat([cls.expand(len(x), -1, -1), x], dim=1)
        x = vit.drop_after_pos(x)
        x = vit.pre_norm(x) if hasattr(vit, 'pre_norm') else x
        outputs = []
        for end, layer in enumerate(vit.layers, start=1):
            x = layer(x)
            if end == self.depth:
                outputs.append(vit.norm1(x))
            elif end in self.stage_ends:
                outputs.append(self.norms[self.stage_ends.index(end)](x))
        return tuple(outputs)

    def _check_kind(self, kind: str) -> None:
        """Raise a ValueError where the backbone is not called as ``forward`` does it."""
        vit = self.vit
        missing = [name for name in NEEDED if getattr(vit, name, None) is None]
        reason = f'it has no {" and no ".join(missing)}' if missing else None
        if not missing:
            rows, columns = vit.patch_resolution
            if not 0 <= vit.pos_embed.shape[1] - rows * columns <= 1:
                reason = 'it has further tokens besides a class token'
            elif len(inspect.signature(vit.layers[0].forward).parameters) != 1:
                reason = 'its layers need more than the tokens'
        if reason:
            raise ValueError(
                f"vit.type='{kind}' cannot encode visible tokens alone: {reason}. "
                'mmpretrain.VisionTransformer can'
            )
