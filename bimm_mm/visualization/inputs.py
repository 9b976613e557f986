"""Videos and images for pictures, as large as the model needs them."""

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from ..video import VideoError, open_video


def read_clip(
    path: str | Path, num_frames: int, interval: int, size: tuple[int, int], start: int | None
) -> Tensor:
    """Read frames of a video, the short side resized and the center cropped.

    Args:
        path: The video.
        num_frames: T.
        interval: From one frame to the next, at least 1.
        size: H and W.
        start: The first frame. By default the clip is in the middle.

    Returns:
        (3, T, H, W) RGB, uint8. Where the video ends early, the last frame is repeated.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be decoded, or ends before ``start``.
        ImportError: No backend for videos is installed.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'no such file: {path}')
    try:
        video = open_video(path)
        frames = list(video.get_batch(clip_indices(len(video), num_frames, interval, start)))
        video.close()
    except VideoError as error:
        raise ValueError(f'no frame of {path} could be decoded: {error}') from error
    return torch.from_numpy(np.stack([_fit(frame, size) for frame in frames], axis=1)).contiguous()


def clip_indices(length: int, num_frames: int, interval: int, start: int | None) -> list[int]:
    """Which of ``length`` frames :func:`read_clip` takes: ``num_frames`` of them.

    Raises:
        VideoError: The video ends before ``start``.
    """
    needed = (num_frames - 1) * interval + 1
    start = max((length - needed) // 2, 0) if start is None else start
    if start >= length:
        raise VideoError(f'it ends after frame {length - 1}, start={start}')
    found = list(range(start, min(start + needed, length), interval))
    return found + found[-1:] * (num_frames - len(found))


def read_image(path: str | Path, size: tuple[int, int]) -> Tensor:
    """Read an image, the short side resized and the center cropped: (3, H, W) RGB, uint8.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be decoded.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'no such file: {path}')
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f'{path} could not be decoded: is it an image?')
    return torch.from_numpy(_fit(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), size))


def _fit(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(h, w, 3) to (3, H, W)."""
    factor = max(size[0] / image.shape[0], size[1] / image.shape[1])
    height, width = (max(round(factor * image.shape[i]), size[i]) for i in (0, 1))
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    image = cv2.resize(image, (width, height), interpolation=way)
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    crop = image[top : top + size[0], left : left + size[1]]
    return np.ascontiguousarray(crop.transpose(2, 0, 1))
