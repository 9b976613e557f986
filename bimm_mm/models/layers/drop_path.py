"""Stochastic depth."""

from mmcv.cnn.bricks import DropPath as MMCVDropPath
from torch import Tensor

from ...utils import draws


class DropPath(MMCVDropPath):
    """mmcv's DropPath, whose draws do not depend on how the batch is divided among processes.

    In compiled code they do, which has no access to the place in the global batch.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Leave out some samples of (B, ...), and scale the others."""
        if not self.drop_prob or not self.training or not draws.is_global():
            return super().forward(x)
        kept = 1 - self.drop_prob
        noise = draws.rand((len(x),), x.device)
        mask = (noise < kept).to(x.dtype).view(-1, *(1,) * (x.dim() - 1))
        return x.div(kept) * mask
