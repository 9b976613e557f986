"""Projection of clip features for contrast."""

import torch.nn.functional as F
from mmengine.dist import get_rank
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from ..losses import gather_with_gradient


class SyncBatchNorm(nn.SyncBatchNorm):
    """Batch norm over the samples of all processes, on CPUs too, where torch's refuses to."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C) to (B, C)."""
        if x.device.type != 'cpu':
            return super().forward(x)
        start, everyone = 0, x
        if self.training:
            self.num_batches_tracked.add_(1)
            start, everyone = get_rank() * len(x), gather_with_gradient(x)
        normed = F.batch_norm(
            everyone,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training,
            self.momentum,
            self.eps,
        )
        return normed[start : start + len(x)]


@MODELS.register_module()
class ContrastProjector(BaseModule):
    """MLP on one feature per clip: linear layers with SyncBN and ReLU between them (SimCLR).

    Args:
        embed_dims: Width of the feature.
        hidden_dims: Width between the layers (paper: 2048 for the analyzes, 4096 for the large
            model).
        out_dims: Width of the projection (paper: 256).
        num_layers: Linear layers (paper: 2, and 3 for the large model). The last one has no bias
            and no norm after it.
    """

    def __init__(
        self,
        embed_dims: int,
        hidden_dims: int = 2048,
        out_dims: int = 256,
        num_layers: int = 2,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if num_layers < 1:
            raise ValueError(f'num_layers={num_layers} must be at least 1')
        widths = [embed_dims, *[hidden_dims] * (num_layers - 1), out_dims]
        last = num_layers - 1
        self.layers = nn.ModuleList(
            nn.Linear(widths[i], widths[i + 1], bias=i < last) for i in range(num_layers)
        )
        self.norms = nn.ModuleList(SyncBatchNorm(hidden_dims) for _ in range(last))
        for layer in self.layers:
            nn.init.normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C) to (B, out_dims)."""
        for layer, norm in zip(self.layers, self.norms, strict=False):
            x = F.relu(norm(layer(x)))
        return self.layers[-1](x)
