"""Contours that Segment Anything finds during training."""

import inspect
from functools import lru_cache

import numpy as np
import torch
from mmengine.registry import MODELS
from torch import Tensor

from ...contours.generator import ContourGenerator
from ...contours.sam import load_sam
from ...contours.segmenters import SamSegmenter
from .base import IMAGENET_MEAN, IMAGENET_STD
from .contour import ContourTarget

FIXED = {'segmenter', 'short_side', 'what'}  # outlines as large as the frame
FRAMES_AT_A_TIME = 8  # for the image encoder, whose input has 1024 x 1024 pixels


@MODELS.register_module()
class SamContourTarget(ContourTarget):
    """Contours that Segment Anything finds during training, for small sets and for pictures.

    Each frame takes about as long as a frame of ``extract_contours.py``, far longer than the rest
    of the step: for real runs make a cache and use :class:`CachedContourTarget`.

    Sam is not a part of the model: it is neither trained nor saved.

    Args:
        checkpoint: SAM's weights.
        model_type: 'vit_b', 'vit_l', 'vit_h', or 'vit_t' for MobileSAM.
        generator: Arguments of :class:`bimm_mm.contours.generator.ContourGenerator`, as
            ``dict(points_per_side=16)``; outlines of the frame's own size are made of its masks.
        dtype: 'float32', 'bfloat16' or 'float16', of SAM.

    Raises:
        FileNotFoundError, ValueError: As :func:`load_sam`, when the model is built.
        ValueError: An argument in ``generator`` or the ``dtype`` is unknown.
    """

    def __init__(
        self,
        checkpoint: str,
        model_type: str = 'vit_h',
        generator: dict | None = None,
        dtype: str = 'float32',
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
        **kwargs,
    ) -> None:
        super().__init__(mean=mean, std=std, **kwargs)
        known = inspect.signature(ContourGenerator).parameters.keys() - FIXED
        unknown = sorted((generator or {}).keys() - known)
        if unknown:
            raise ValueError(f'generator has {unknown}: it may have {", ".join(sorted(known))}')
        if dtype not in ('float32', 'bfloat16', 'float16'):
            raise ValueError(f"dtype={dtype!r} must be 'float32', 'bfloat16' or 'float16'")
        self.checkpoint = checkpoint
        self.model_type = model_type
        self.dtype = dtype
        self.settings = tuple(sorted((generator or {}).items()))
        self.register_buffer('mean', torch.tensor(mean).view(3, 1, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(std).view(3, 1, 1, 1), persistent=False)
        load_sam(checkpoint, model_type, 'cpu')

    def compute(self, x: Tensor, ids: Tensor | None) -> Tensor:
        """Values 0 or 1, in the order frame, row, column."""
        generate = _generator(
            self.checkpoint, self.model_type, str(x.device), self.dtype, self.settings
        )
        images = (x * self.std + self.mean).round_().clamp_(0, 255).to(torch.uint8)
        images = images.permute(0, 2, 3, 4, 1).flatten(0, 1).cpu().numpy()  # (B T, H, W, 3)
        with torch.autocast(x.device.type, enabled=False):
            contours = [
                contour
                for start in range(0, len(images), FRAMES_AT_A_TIME)
                for contour in generate(list(images[start : start + FRAMES_AT_A_TIME]))
            ]
        contours = torch.from_numpy(np.stack(contours)).to(x)
        return self.take(contours.view(len(x), 1, *x.shape[2:]), ids)


@lru_cache(maxsize=1)
def _generator(
    checkpoint: str, model_type: str, device: str, dtype: str, settings: tuple
) -> ContourGenerator:
    """Build the generator once, outside the module, so that it is no part of the model."""
    segmenter = SamSegmenter(load_sam(checkpoint, model_type, device), getattr(torch, dtype))
    return ContourGenerator(segmenter, short_side=None, **dict(settings))
