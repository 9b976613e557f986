"""From names and settings to a contour generator, and to what a cache says of it."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from .generator import ContourGenerator
from .sam import OriginalGenerator, file_checksum, load_sam
from .sam2 import Sam2Segmenter
from .segmenters import SamSegmenter

GENERATORS = ('batched', 'original')
DTYPES = ('float32', 'bfloat16', 'float16')
Generator = Callable[[Sequence[np.ndarray]], list[np.ndarray]]


def load_generator(
    checkpoint: str,
    model_type: str,
    device: str,
    generator: str = 'batched',
    dtype: str = 'float32',
    compile_encoder: bool = False,
    memory: float | None = None,
    points_per_batch: int | None = None,
    **settings,
) -> tuple[Generator, dict]:
    """Load a segmenter and build a contour generator with it.

    Args:
        checkpoint: The weights: a file of segment_anything or MobileSAM, or a folder of SAM 2.1.
        model_type: 'vit_b', 'vit_l', 'vit_h' (SAM), 'vit_t' (MobileSAM) or 'sam2' (SAM 2.1).
        device: Where to put it.
        generator: 'batched' (:class:`ContourGenerator`) or 'original', which is
            segment_anything's SamAutomaticMaskGenerator.
        dtype: 'float32', 'bfloat16' or 'float16'; of the batched generator only.
        compile_encoder: Compile the image encoder; of the batched generator only.
        memory: Gigabytes that the batched generator's decoder may take.
        points_per_batch: Points at a time; by default 64 for the original, and what fits the
            memory for the batched one.
        **settings: ``points_per_side``, ``pred_iou_thresh``, ``stability_score_thresh``,
            ``short_side`` and ``what``, which both have.

    Returns:
        The generator, and the settings that contours depend on.

    Raises:
        FileNotFoundError, ImportError: The weights, or a package, are missing.
        ValueError: A setting is wrong, or the weights are not of this type.
    """
    if generator not in GENERATORS:
        raise ValueError(f'generator={generator!r} must be one of {", ".join(GENERATORS)}')
    made_by = dict(model_type=model_type, generator=generator, **settings)
    if generator == 'original':
        if model_type == 'sam2' or dtype != 'float32' or compile_encoder:
            raise ValueError(
                "generator='original' is for models of segment_anything in float32, not compiled; "
                f'got model_type={model_type!r}, dtype={dtype!r}, '
                f'compile_encoder={compile_encoder}: take the batched one'
            )
        sam = load_sam(checkpoint, model_type, device)
        points = points_per_batch or 64
        made_by |= dict(checkpoint_sha256=file_checksum(checkpoint), points_per_batch=points)
        return OriginalGenerator(sam, points_per_batch=points, **settings), made_by
    number = getattr(torch, dtype)
    if model_type == 'sam2':
        segmenter = Sam2Segmenter(checkpoint, device, number, compile_encoder)
        checkpoint = str(Path(checkpoint) / 'model.safetensors')
    else:
        sam = load_sam(checkpoint, model_type, device)
        segmenter = SamSegmenter(sam, number, compile_encoder)
    made_by |= dict(checkpoint_sha256=file_checksum(checkpoint), dtype=dtype)
    built = ContourGenerator(
        segmenter, memory=memory, points_per_batch=points_per_batch, **settings
    )
    return built, made_by
