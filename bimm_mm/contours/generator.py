"""Contours by a segmenter: points in batches, and nothing but the result leaves the device."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .boundaries import boxes_of_masks, merge_masks, reduced_size
from .segmenters import Masks, Segmenter

CPU_MEMORY = 0.25  # gigabytes: a few prompts, so that they stay in the cache, which is fastest
DEVICE_SHARE = 0.5  # of the memory of a GPU
Result = TypeVar('Result')


class ContourGenerator:
    """Contours of pictures, as by segment_anything's SamAutomaticMaskGenerator without crops.

    The masks are those of the same grid of points, and pass the same filters: predicted IoU,
    stability and non-maximum suppression of boxes. They are filtered and merged at the resolution
    that contours are kept at, not at that of the picture.

    Args:
        segmenter: The model.
        points_per_side: The grid has the square of it.
        pred_iou_thresh: Masks of which the model guesses a lower IoU are dropped.
        stability_score_thresh: Masks whose area changes more when the cut-off is moved are dropped.
        stability_score_offset: How far it is moved.
        box_nms_thresh: IoU of boxes from which the mask of the lower score is dropped.
        short_side: Contours have this shorter side, where the picture's is larger.
        what: 'outline' or 'masks', see :func:`bimm_mm.contours.boundaries.merge_masks`.
        memory: Gigabytes that the decoder may take. By default half of a GPU's memory, so that the
            same device does the same in each run; on a CPU what its cache serves best.
        points_per_batch: Points that the decoder takes at a time, in place of ``memory``.

    Attributes:
        name: What a cache says of it.
    """

    name = 'batched'

    def __init__(
        self,
        segmenter: Segmenter,
        points_per_side: int = 32,
        pred_iou_thresh: float = 0.88,
        stability_score_thresh: float = 0.95,
        stability_score_offset: float = 1.0,
        box_nms_thresh: float = 0.7,
        short_side: int | None = 256,
        what: str = 'outline',
        memory: float | None = None,
        points_per_batch: int | None = None,
    ) -> None:
        self.segmenter = segmenter
        self.pred_iou_thresh = pred_iou_thresh
        self.stability_score_thresh = stability_score_thresh
        self.stability_score_offset = stability_score_offset
        self.box_nms_thresh = box_nms_thresh
        self.short_side, self.what = short_side, what
        side = (torch.arange(points_per_side) + 0.5) / points_per_side
        self.points = torch.cartesian_prod(side, side).flip(1)  # row by row, x first
        self.points_at_a_time = Batches(
            points_per_batch or find_batch(segmenter.device, segmenter.bytes_per_prompt, memory)
        )
        self.images_at_a_time = Batches(1 << 16)  # as many as are given, until memory runs out

    @torch.inference_mode()
    def __call__(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Find the contours of pictures, (H, W, 3) uint8, RGB, of any sizes.

        The pictures are encoded as one batch, and a smaller one if memory runs out.

        Returns:
            (h, w) bool each, or uint8 for ``what='masks'``.

        Raises:
            RuntimeError: Memory does not suffice for one picture or point at a time.
        """
        encoded = self.images_at_a_time(self.segmenter.encode, images)
        features = [feature for part in encoded for feature in part]
        return [
            self.contour(feature, image.shape[:2])
            for feature, image in zip(features, images, strict=True)
        ]

    def contour(self, features: Any, size: tuple[int, int]) -> np.ndarray:
        """Find the contour of an encoded picture of some height and width."""
        from torchvision.ops import nms  # not needed by `import bimm_mm`

        kept_size = reduced_size(size, self.short_side)

        def find(points: Tensor) -> tuple[Tensor, Tensor]:
            found = self.segmenter.decode(features, points, self.pred_iou_thresh)
            return self.filter(found, kept_size)

        found = list(self.points_at_a_time(find, self.points))
        masks, scores = (torch.cat(parts) for parts in zip(*found, strict=True))
        scale = torch.tensor([size[1] / kept_size[1], size[0] / kept_size[0]] * 2)
        boxes = boxes_of_masks(masks)
        # the last pixel of a box counts in the original, whose boxes are the picture's pixels
        last = boxes.new_tensor([0, 0, 1, 1])
        boxes = (boxes + last) * scale.to(boxes.device) - last
        kept = nms(boxes.float(), scores, self.box_nms_thresh)
        return merge_masks(masks[kept], self.what).cpu().numpy()

    def filter(self, found: Masks, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Bring masks to the size of the contour, and drop those that are not stable.

        Returns:
            Masks, (n, h, w) bool, and their scores, (n,) float32.
        """
        logits = resize_logits(found.logits, found.extent, size)
        if self.stability_score_thresh > 0:
            offset = self.stability_score_offset
            smaller, larger = (
                (logits > cut).flatten(1).sum(1, dtype=torch.float32) for cut in (offset, -offset)
            )
            stable = smaller / larger >= self.stability_score_thresh
            return logits[stable] > 0, found.scores[stable].float()
        return logits > 0, found.scores.float()


def resize_logits(logits: Tensor, extent: tuple[float, float], size: tuple[int, int]) -> Tensor:
    """Resize the part of logits that a picture takes, to (n, height, width) float32.

    Args:
        logits: (n, h, w).
        extent: Rows and columns that the picture takes; they need not be whole.
        size: Height and width of the result.
    """
    if not len(logits):
        return logits.new_zeros((0, *size), dtype=torch.float32)
    # interpolate() takes whole rows: let it make a few too many; its size is rounded down
    scale = [(new + 1e-3) / old for new, old in zip(size, extent, strict=True)]
    logits = F.interpolate(
        logits[:, None].float(),
        scale_factor=scale,
        mode='bilinear',
        align_corners=False,
        recompute_scale_factor=False,
    )
    return logits[:, 0, : size[0], : size[1]]


class Batches:
    """Work on a sequence part by part; when memory runs out, parts are halved from then on.

    Args:
        size: Length of a part.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, work: Callable[[Sequence], Result], items: Sequence) -> Iterator[Result]:
        """Yield the result of each part.

        Raises:
            RuntimeError: Memory does not suffice for a part of one item.
        """
        start = 0
        while start < len(items):
            part = items[start : start + self.size]
            try:
                result = work(part)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or len(part) == 1:
                    raise
                self.size = len(part) // 2
            else:
                start += len(part)
                yield result
                continue
            if torch.cuda.is_available():  # after the error, which keeps its tensors, is gone
                torch.cuda.empty_cache()


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether an error says that memory ran out, on a GPU or a CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error)
    return any(part in text for part in ('out of memory', "can't allocate memory", 'INT_MAX'))


def find_batch(device: torch.device, bytes_per_item: int, memory: float | None = None) -> int:
    """Find how many items fit the memory: a power of two, at least 1.

    Args:
        device: Where they are computed.
        bytes_per_item: What each takes.
        memory: Gigabytes that they may take in all; by default :data:`DEVICE_SHARE` of a GPU's
            memory, and :data:`CPU_MEMORY`.
    """
    if memory is None:
        memory = CPU_MEMORY
        if device.type == 'cuda':
            total = torch.cuda.get_device_properties(device).total_memory
            memory = DEVICE_SHARE * total / 1e9
    return 1 << max(0, int(memory * 1e9 / bytes_per_item).bit_length() - 1)
