"""Contours by Segment Anything (Kirillov et al., 2023), with its own package."""

import hashlib
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.registry import MODELS
from torch import Tensor

from ..checkpoints import read_checkpoint
from .base import IMAGENET_MEAN, IMAGENET_STD
from .contour import ContourTarget


@lru_cache(maxsize=1)
def load_sam(checkpoint: str, model_type: str, device: str) -> torch.nn.Module:
    """Build a Sam and load its weights, nothing else, from a checkpoint; kept for the next call.

    Args:
        checkpoint (str): file of a state dict, as ``sam_vit_b_01ec64.pth``.
        model_type (str): 'vit_b', 'vit_l' or 'vit_h', or what else segment_anything's
            ``sam_model_registry`` holds.
        device (str): where to put it.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if ``model_type`` is unknown, or the checkpoint is not one of this type.
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
        state = read_checkpoint(checkpoint)['state_dict']
    except ValueError as error:
        raise ValueError(
            f'{checkpoint!r} cannot be read as a checkpoint of weights: {error}; download it again'
        ) from error
    sam = sam_model_registry[model_type](checkpoint=None)
    try:
        sam.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(
            f'{checkpoint!r} is no checkpoint of a SAM of type {model_type!r}: '
            f'{str(error)[:300]}; give the model type that belongs to it'
        ) from error
    return sam.to(device).eval().requires_grad_(False)


def file_checksum(path: str) -> str:
    """SHA-256 of a file."""
    with open(path, 'rb') as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def make_generator(sam: torch.nn.Module, **settings):
    """segment_anything's SamAutomaticMaskGenerator, with its own defaults.

    Args:
        sam (nn.Module): of :func:`load_sam`.
        **settings: ``points_per_side``, ``points_per_batch``, ``pred_iou_thresh``,
            ``stability_score_thresh`` and others of its arguments.
    """
    from segment_anything import SamAutomaticMaskGenerator

    return SamAutomaticMaskGenerator(sam, **settings)


def segment_contours(generator, image: np.ndarray, short_side: int | None = None) -> np.ndarray:
    """The union of the boundaries of SAM's masks (paper: stage V2).

    A pixel belongs to a boundary if exactly one of it and its right or lower neighbour belongs to
    the mask, so that masks side by side share one line, a pixel wide (our choice).

    Args:
        generator: of :func:`make_generator`.
        image (np.ndarray): (H, W, 3) uint8, RGB.
        short_side (int, optional): masks are reduced to this shorter side, where that is smaller,
            before their boundaries are taken: lines stay one pixel wide.

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


@MODELS.register_module()
class SamContourTarget(ContourTarget):
    """Contours that Segment Anything finds during training, for small sets and for pictures.

    Each frame takes about as long as a frame of ``extract_contours.py``, far longer than the rest
    of the step: for real runs make a cache and use :class:`CachedContourTarget`.

    Sam is no part of the model: it is neither trained nor saved.

    Args:
        checkpoint (str): SAM's weights.
        model_type (str): 'vit_b', 'vit_l' or 'vit_h'.
        generator (dict, optional): arguments of SamAutomaticMaskGenerator.

    Raises:
        FileNotFoundError, ValueError: as :func:`load_sam`, when the model is built.
    """

    def __init__(
        self,
        checkpoint: str,
        model_type: str = 'vit_h',
        generator: dict | None = None,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
        **kwargs,
    ) -> None:
        super().__init__(mean=mean, std=std, **kwargs)
        self.checkpoint = checkpoint
        self.model_type = model_type
        self.generator = generator or {}
        self.register_buffer('mean', torch.tensor(mean).view(3, 1, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(std).view(3, 1, 1, 1), persistent=False)
        load_sam(checkpoint, model_type, 'cpu')

    def compute(self, x: Tensor, ids: Tensor | None) -> Tensor:
        """Values 0 or 1, in the order frame, row, column."""
        sam = load_sam(self.checkpoint, self.model_type, str(x.device))
        generator = make_generator(sam, **self.generator)
        images = (x * self.std + self.mean).round_().clamp_(0, 255).to(torch.uint8)
        images = images.permute(0, 2, 3, 4, 1).flatten(0, 1).cpu().numpy()
        contours = np.stack([segment_contours(generator, image) for image in images])
        contours = torch.from_numpy(contours).to(x).view(len(x), 1, *x.shape[2:])
        return self.take(contours, ids)
