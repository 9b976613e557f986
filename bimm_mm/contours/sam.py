"""Contours by Segment Anything (Kirillov et al., 2023), with its own package."""

import hashlib
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch


@lru_cache(maxsize=1)
def load_sam(checkpoint: str, model_type: str, device: str) -> torch.nn.Module:
    """Build a Sam and load its weights, nothing else, from a checkpoint; kept for the next call.

    Args:
        checkpoint: File of a state dict, for instance ``sam_vit_b_01ec64.pth``.
        model_type: 'vit_b', 'vit_l', 'vit_h', or another name in segment_anything's
            ``sam_model_registry``.
        device: Where to put it.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: ``model_type`` is unknown, or the checkpoint is not of this type.
    """
    from segment_anything import sam_model_registry

    if model_type not in sam_model_registry:
        raise ValueError(
            f"model_type='{model_type}' must be one of {', '.join(sorted(sam_model_registry))}"
        )
    if not Path(checkpoint).is_file():
        raise FileNotFoundError(
            f'no SAM checkpoint {checkpoint!r}: download it from '
            'https://github.com/facebookresearch/segment-anything#model-checkpoints'
        )
    try:
        state = torch.load(checkpoint, map_location='cpu', weights_only=True)
    except Exception as error:  # whatever the unpickler does with bytes that are not a pickle
        reason = next((line for line in str(error).splitlines() if 'GLOBAL' in line), str(error))
        raise ValueError(
            f'{checkpoint!r} cannot be read as a checkpoint of weights: it is broken, or holds '
            f'objects that could run code ({reason[:200]}); download it again'
        ) from error
    sam = sam_model_registry[model_type](checkpoint=None)
    try:
        sam.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(
            f'{checkpoint!r} is not a checkpoint of a SAM of type {model_type!r}: '
            f'{str(error)[:300]}; give the model type that belongs to it'
        ) from error
    return sam.to(device).eval().requires_grad_(False)


def file_checksum(path: str) -> str:
    """Compute the SHA-256 of a file."""
    with open(path, 'rb') as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def make_generator(sam: torch.nn.Module, **settings):
    """Build segment_anything's SamAutomaticMaskGenerator, with its own defaults.

    Args:
        sam: What :func:`load_sam` returns.
        **settings: ``points_per_side``, ``points_per_batch``, ``pred_iou_thresh``,
            ``stability_score_thresh`` and others of its arguments.
    """
    from segment_anything import SamAutomaticMaskGenerator

    return SamAutomaticMaskGenerator(sam, **settings)


def segment_contours(generator, image: np.ndarray, short_side: int | None = None) -> np.ndarray:
    """Compute the union of the boundaries of SAM's masks (paper: stage V2).

    A pixel belongs to a boundary if exactly one of it and its right or lower neighbour belongs to
    the mask, so that masks side by side share one line, a pixel wide (our choice).

    Args:
        generator: What :func:`make_generator` returns.
        image: (H, W, 3) uint8, RGB.
        short_side: Masks are reduced to this shorter side, where that is smaller, before their
            boundaries are taken: lines stay one pixel wide.

    Returns:
        np.ndarray: (h, w) bool, the size of the image or the reduced one.
    """
    height, width = image.shape[:2]
    if short_side is not None and min(height, width) > short_side:
        scale = short_side / min(height, width)
        height, width = round(height * scale), round(width * scale)
    union = np.zeros((height, width), bool)
    for record in generator.generate(image):
        mask = record['segmentation']
        if mask.shape != union.shape:
            mask = cv2.resize(
                mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA
            )
            mask = mask > 0.5
        union[:, :-1] |= mask[:, 1:] != mask[:, :-1]
        union[:-1] |= mask[1:] != mask[:-1]
    return union
