"""Projection of clip features for contrast."""

import torch
import torch.nn.functional as F
from mmengine.dist import get_world_size
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce


class SyncBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm over the samples of all processes, each of which has as many.

    In place of torch's, which works on accelerators only: DDP refuses to wrap it on CPUs. Weights
    and statistics have the same names.
    """

    is_synchronized = True  # see RunningStatisticsHook

    def forward(self, x: Tensor) -> Tensor:
        """(B, C) to (B, C)."""
        processes = get_world_size()
        if not self.training or processes == 1:
            return super().forward(x)
        self.num_batches_tracked.add_(1)
        centered = x.float()
        mean = all_reduce(centered.mean(dim=0)) / processes  # (C,), with gradient
        centered = centered - mean
        variance = all_reduce(centered.square().mean(dim=0)) / processes
        with torch.no_grad():
            count = processes * len(x)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centered * scale + self.bias).to(x.dtype)

    def _check_input_dim(self, x: Tensor) -> None:
        if x.dim() != 2:
            raise ValueError(f'x has {x.dim()} axes, and must have 2: (B, C)')


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
