"""How many dimensions features fill."""

import torch
from torch import Tensor


def effective_rank(features: Tensor) -> float:
    """Compute the effective rank of features: 1 if they have collapsed to a line, at most D.

    The exponential of the entropy of the singular values, which are divided by their sum (Roy and
    Vetterli, 2007). RankMe (Garrido et al., 2023) found that it goes with the accuracy of probes.

    Args:
        features: (N, D), N of at least a few times D, or N is the limit.

    Raises:
        ValueError: There are no features, or not in two dimensions.
    """
    if features.dim() != 2 or not features.numel():
        raise ValueError(f'features of shape {tuple(features.shape)} must be (N, D)')
    values = torch.linalg.svdvals(features.double())
    share = values / values.sum().clamp_min(1e-30) + 1e-7  # as RankMe has it
    return torch.exp(-(share * share.log()).sum()).item()
