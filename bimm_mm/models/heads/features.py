"""What a head reads of the backbone's output."""

from torch import Tensor


def last_feature(feats: tuple[Tensor, ...], dims: int, out_type: str) -> Tensor:
    """Return the last feature of the backbone.

    Raises:
        ValueError: It has another number of axes than ``dims``; names the right ``out_type``.
    """
    if feats[-1].dim() != dims:
        raise ValueError(
            f"the head needs the backbone's out_type={out_type}, but got a feature of shape "
            f'{tuple(feats[-1].shape)}'
        )
    return feats[-1]
