"""Dropout that does not depend on how the batch is divided among processes."""

from torch import Tensor, nn

from ...utils import draws


class Dropout(nn.Dropout):
    """torch's Dropout; in a run, the samples' places in the global batch decide what is left out.

    See :func:`bimm_mm.utils.draws.dropout`.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Set numbers of (B, ...) to zero by chance, and scale the others."""
        return draws.dropout(x, self.p, self.training)
