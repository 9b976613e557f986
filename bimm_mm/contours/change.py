"""Tell frames of a video that hardly differ, so that they can share a contour."""

import cv2
import numpy as np

THUMBNAIL = 64  # shorter side at which frames are compared
TILE = 8  # of the thumbnail: an eighth of the shorter side


def thumbnail(image: np.ndarray) -> np.ndarray:
    """Shrink a picture, (H, W, 3) uint8, RGB, to a small gray one, (h, w) float32."""
    scale = THUMBNAIL / min(image.shape[:2])
    size = tuple(max(1, round(side * scale)) for side in image.shape[1::-1])
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return cv2.resize(gray, size, interpolation=cv2.INTER_AREA).astype(np.float32)


def largest_change(first: np.ndarray, second: np.ndarray) -> float:
    """Measure how far two thumbnails differ where they differ most (our choice).

    That is the mean absolute difference in a square of an eighth of the shorter side: a small
    thing that moves counts as much as if all did, and noise of single pixels hardly.

    Returns:
        Levels, from 0 to 255.
    """
    difference = np.abs(first - second)
    return float(cv2.blur(difference, (TILE, TILE)).max())


class Chain:
    """Find for each frame, one after the other, the segmented one that stands for it.

    Args:
        threshold: A frame that differs from the last segmented one by less than this takes its
            contour; 0 segments all.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.last: tuple[int, np.ndarray] | None = None

    def source(self, record: int, image: np.ndarray) -> int:
        """Return the record whose contour stands for this one, which can be itself."""
        if not self.threshold:
            return record
        small = thumbnail(image)
        if self.last is None or largest_change(self.last[1], small) >= self.threshold:
            self.last = record, small
        return self.last[0]
