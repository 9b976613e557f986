"""From tokens to logits over codes, with the weights of the code embedding."""

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class TiedCodeHead(BaseModule):
    """Linear layer, GELU, LayerNorm, and the code embedding as the last layer (VIMPAC, BERT).

    Args:
        embed_dims: Width C of the tokens and of the embedding.
        num_outputs: Rows of the embedding; each has a bias here.
    """

    def __init__(self, embed_dims: int, num_outputs: int, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.dense = nn.Linear(embed_dims, embed_dims)
        self.norm = nn.LayerNorm(embed_dims, eps=1e-12)
        self.bias = nn.Parameter(torch.zeros(num_outputs))
        nn.init.normal_(self.dense.weight, std=0.02)
        nn.init.zeros_(self.dense.bias)

    def forward(self, tokens: Tensor, embedding: Tensor) -> Tensor:
        """(N, C) tokens and the embedding (V, C) to logits (N, V)."""
        return F.linear(self.norm(F.gelu(self.dense(tokens))), embedding, self.bias)
