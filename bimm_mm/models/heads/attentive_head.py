"""Attentive probe: a block of cross-attention with one learned query."""

import torch
import torch.nn.functional as F
from mmaction.models.heads import BaseHead
from mmengine.registry import MODELS
from torch import Tensor, nn

from ..layers import init_transformer
from .features import last_feature


@MODELS.register_module()
class AttentiveHead(BaseHead):
    """Attentive probe: one learned query attends to all tokens, a linear layer classifies.

    A block of cross-attention with pre-norm and an MLP, as V-JEPA (Bardes et al., 2024) evaluates
    frozen video encoders. Reads ``out_type='raw'``, class token included.

    Args:
        num_classes: Number of classes.
        in_channels: C of the tokens.
        num_heads: Attention heads; divides C.
        mlp_ratio: Hidden width of the MLP over C.
        **kwargs: Of mmaction2's BaseHead.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        **kwargs,
    ) -> None:
        super().__init__(num_classes, in_channels, **kwargs)
        if in_channels % num_heads:
            raise ValueError(
                f'in_channels={in_channels} is not a multiple of num_heads={num_heads}'
            )
        self.num_heads = num_heads
        hidden = int(in_channels * mlp_ratio)
        self.query_token = nn.Parameter(torch.zeros(1, 1, in_channels))
        self.norm1 = nn.LayerNorm(in_channels, eps=1e-6)
        self.query = nn.Linear(in_channels, in_channels)
        self.key_value = nn.Linear(in_channels, 2 * in_channels)
        self.norm2 = nn.LayerNorm(in_channels, eps=1e-6)
        self.mlp = nn.Sequential(
            nn.Linear(in_channels, hidden), nn.GELU(), nn.Linear(hidden, in_channels)
        )
        self.fc_cls = nn.Linear(in_channels, num_classes)

    def init_weights(self) -> None:
        """Initialize like the encoder; draw a small random query."""
        self.apply(init_transformer)
        nn.init.trunc_normal_(self.query_token, std=0.02)
        nn.init.trunc_normal_(self.fc_cls.weight, std=0.02)

    def forward(self, feats: tuple[Tensor, ...], **kwargs) -> Tensor:
        """Features, the last one (B, L, C), to scores (B, num_classes) float32."""
        tokens = self.norm1(last_feature(feats, 3, "'raw'"))
        query = self.query_token.expand(len(tokens), -1, -1)
        q, k, v = (
            x.unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for x in (self.query(query), *self.key_value(tokens).chunk(2, dim=-1))
        )
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = query + attended
        x = x + self.mlp(self.norm2(x))
        return self.fc_cls(x[:, 0]).float()
