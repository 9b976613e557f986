"""Turn masks into the one picture that is kept of them."""

import torch
from torch import Tensor

WHAT = ('outline', 'masks')
MASKS_AT_A_TIME = 64  # bounds the memory of comparing neighbors


def merge_masks(masks: Tensor, what: str = 'outline') -> Tensor:
    """Merge masks into one picture.

    Args:
        masks: (n, H, W) bool.
        what: 'outline' is the union of the boundaries of the masks (paper: "contour image"): a
            pixel belongs to a boundary if exactly one of it and its right or lower neighbor belongs
            to the mask, so that masks side by side share one line, a pixel wide (our choice).
            'masks' keeps which mask a pixel belongs to, as the paper's "concatenate all semantic
            masks" can be read: the masks are numbered from 1 by falling area, and the smallest one
            at a pixel counts; 0 is no mask, and after 255 comes 1 again.

    Returns:
        (H, W) bool for 'outline', uint8 for 'masks'.

    Raises:
        ValueError: ``what`` is neither.
    """
    if what == 'outline':
        return _outline(masks)
    if what == 'masks':
        return _labels(masks)
    raise ValueError(f'what={what!r} must be one of {", ".join(WHAT)}')


def _outline(masks: Tensor) -> Tensor:
    union = masks.new_zeros(masks.shape[1:])
    for some in masks.split(MASKS_AT_A_TIME):
        union[:, :-1] |= (some[:, :, 1:] != some[:, :, :-1]).any(0)
        union[:-1] |= (some[:, 1:] != some[:, :-1]).any(0)
    return union


def _labels(masks: Tensor) -> Tensor:
    labels = torch.zeros(masks.shape[1:], dtype=torch.uint8, device=masks.device)
    areas = masks.flatten(1).sum(1)
    for number, index in enumerate(areas.argsort(descending=True, stable=True).tolist()):
        labels.masked_fill_(masks[index], 1 + number % 255)
    return labels


def boxes_of_masks(masks: Tensor) -> Tensor:
    """Compute the boxes of masks, (n, H, W) bool to (n, 4): left, top, right, bottom, inclusive.

    The box of an empty mask is 0, 0, -1, -1.
    """
    boxes = []
    for occupied in (masks.any(1), masks.any(2)):  # columns, rows
        size = occupied.shape[1]
        first = occupied.int().argmax(1)
        last = size - 1 - occupied.flip(1).int().argmax(1)
        boxes.append((first, torch.where(occupied.any(1), last, -1)))
    (left, right), (top, bottom) = boxes
    return torch.stack([left, top, right, bottom], dim=1)


def reduced_size(size: tuple[int, int], short_side: int | None) -> tuple[int, int]:
    """Reduce a height and width to a shorter side, where theirs is larger."""
    if short_side is None or min(size) <= short_side:
        return tuple(size)
    return tuple(round(side * short_side / min(size)) for side in size)
