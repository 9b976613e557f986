"""Contours that Segment Anything finds during training."""

import numpy as np
import torch
from mmengine.registry import MODELS
from torch import Tensor

from ...contours.sam import load_sam, make_generator, segment_contours
from .base import IMAGENET_MEAN, IMAGENET_STD
from .contour import ContourTarget


@MODELS.register_module()
class SamContourTarget(ContourTarget):
    """Contours that Segment Anything finds during training, for small sets and for pictures.

    Each frame takes about as long as a frame of ``extract_contours.py``, far longer than the rest
    of the step: for real runs make a cache and use :class:`CachedContourTarget`.

    Sam is not a part of the model: it is neither trained nor saved.

    Args:
        checkpoint: SAM's weights.
        model_type: 'vit_b', 'vit_l' or 'vit_h'.
        generator: Arguments of SamAutomaticMaskGenerator.

    Raises:
        FileNotFoundError, ValueError: As :func:`load_sam`, when the model is built.
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
