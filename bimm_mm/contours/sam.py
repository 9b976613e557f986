"""Contours by Segment Anything (Kirillov et al., 2023), with its own package."""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch

from ..utils.checkpoint import read_checkpoint
from .boundaries import merge_masks, reduced_size

OFFICIAL = 'https://github.com/facebookresearch/segment-anything#model-checkpoints'
MOBILE_SAM = 'https://github.com/ChaoningZhang/MobileSAM'
WHERE = dict(vit_t=f'{MOBILE_SAM}/tree/master/weights')


@lru_cache(maxsize=1)
def load_sam(checkpoint: str, model_type: str, device: str) -> torch.nn.Module:
    """Build a Sam and load its weights, nothing else, from a checkpoint; kept for the next call.

    Args:
        checkpoint: File of a state dict, for instance ``sam_vit_b_01ec64.pth``.
        model_type: 'vit_b', 'vit_l', 'vit_h', or another name in segment_anything's
            ``sam_model_registry``; 'vit_t' is MobileSAM (Zhang et al., 2023), of its own package.
        device: Where to put it.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: ``model_type`` is unknown, or the checkpoint is not of this type.
        ImportError: The package of the model is not installed.
    """
    registry = model_registry(model_type)
    if model_type not in registry:
        raise ValueError(f"model_type='{model_type}' must be one of {', '.join(sorted(registry))}")
    if not Path(checkpoint).is_file():
        raise FileNotFoundError(
            f'no SAM checkpoint {checkpoint!r}: download it from {WHERE.get(model_type, OFFICIAL)}'
        )
    try:
        state = read_checkpoint(checkpoint)['state_dict']
    except ValueError as error:
        raise ValueError(
            f'{checkpoint!r} cannot be read as a checkpoint of weights: {error}; download it again'
        ) from error
    sam = registry[model_type](checkpoint=None)
    try:
        sam.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(
            f'{checkpoint!r} is not a checkpoint of a SAM of type {model_type!r}: '
            f'{str(error)[:300]}; give the model type that belongs to it'
        ) from error
    return sam.to(device).eval().requires_grad_(False)


def model_registry(model_type: str) -> dict:
    """Return the ``sam_model_registry`` of the package that has a model type."""
    if model_type != 'vit_t':
        from segment_anything import sam_model_registry

        return sam_model_registry
    try:
        from mobile_sam import sam_model_registry
    except ImportError as error:
        raise ImportError(
            f"model_type='vit_t' needs MobileSAM: pip install git+{MOBILE_SAM} timm ({error})"
        ) from error
    return sam_model_registry


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


class OriginalGenerator:
    """Contours by segment_anything's SamAutomaticMaskGenerator, one picture at a time.

    Args:
        sam: What :func:`load_sam` returns.
        short_side: Masks are reduced to this shorter side, where that is smaller, before they are
            merged: lines stay one pixel wide.
        what: 'outline' or 'masks', see :func:`bimm_mm.contours.boundaries.merge_masks`.
        **settings: As in :func:`make_generator`.

    Attributes:
        name: What a cache says of it.
    """

    name = 'original'

    def __init__(
        self,
        sam: torch.nn.Module,
        short_side: int | None = 256,
        what: str = 'outline',
        **settings,
    ) -> None:
        self.generator = make_generator(sam, **settings)
        self.short_side, self.what = short_side, what

    def __call__(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Find the contours of pictures, (H, W, 3) uint8, RGB."""
        return [
            segment_contours(self.generator, image, self.short_side, self.what) for image in images
        ]


def segment_contours(
    generator, image: np.ndarray, short_side: int | None = None, what: str = 'outline'
) -> np.ndarray:
    """Merge SAM's masks of a picture (paper: stage V2).

    Args:
        generator: What :func:`make_generator` returns.
        image: (H, W, 3) uint8, RGB.
        short_side: Masks are reduced to this shorter side, where that is smaller, before they are
            merged.
        what: 'outline' or 'masks', see :func:`bimm_mm.contours.boundaries.merge_masks`.

    Returns:
        (h, w), the size of the picture or the reduced one; bool, or uint8 for 'masks'.
    """
    height, width = reduced_size(image.shape[:2], short_side)
    masks = []
    for record in generator.generate(image):
        mask = record['segmentation']
        if mask.shape != (height, width):
            mask = mask.astype(np.float32)
            mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA) > 0.5
        masks.append(torch.from_numpy(mask))
    masks = torch.stack(masks) if masks else torch.zeros(0, height, width, dtype=torch.bool)
    return merge_masks(masks, what).numpy()
