"""A few videos, decoded once and held in memory: for trials on a handful of clips."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.registry import DATASETS
from mmengine.structures import BaseDataElement
from torch.utils.data import Dataset

from ..utils.media import VIDEOS, list_media
from ..video import VideoError, open_video

CHUNK = 32  # frames that are held at their full size


@DATASETS.register_module()
class DecodedClipsDataset(Dataset):
    """Random clips of the videos of a folder, which are decoded once and kept small.

    Sample ``index`` is of video ``index`` modulo their number; where in the video, and which crop
    of it, is random. Needs PyAV, but no mmaction2. Not for more videos than fit into memory.
    Source: our choice.

    Args:
        data_root: The folder.
        length: Samples that count as one epoch.
        size: Side of the square crop in pixels.
        short_side: Of the frames it is cut from, in pixels; at least ``size``.
        num_frames: T.
        frame_interval: From one frame to the next. Shorter videos repeat their last frame.
        max_frames: Frames of each video to keep, from its start.

    Raises:
        FileNotFoundError: There is no such folder, or no video in it.
        ValueError: A video cannot be decoded, or ``short_side`` is less than ``size``.
        ImportError: No backend for videos is installed.

    Each sample is a dict of ``inputs``, (3, T, size, size) RGB uint8, and ``data_samples`` with
    ``video``, the number of the video.
    """

    def __init__(
        self,
        data_root: str,
        length: int,
        size: int = 64,
        short_side: int = 72,
        num_frames: int = 8,
        frame_interval: int = 2,
        max_frames: int = 300,
    ) -> None:
        if short_side < size:
            raise ValueError(f'short_side={short_side} must be at least size={size}')
        folder = Path(data_root)
        try:
            paths = [folder / name for name in list_media(folder, VIDEOS)]
        except FileNotFoundError as error:
            raise FileNotFoundError(f'data_root: {error}') from error
        self.length, self.size = length, size
        self.steps = np.arange(num_frames) * frame_interval
        self.videos: Sequence[np.ndarray] = [_decode(p, short_side, max_frames) for p in paths]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict:
        """A random clip."""
        number = index % len(self.videos)
        video = self.videos[number]
        length, height, width = video.shape[:3]

        def draw(high: int) -> int:
            return int(torch.randint(max(high, 0) + 1, ()))

        frames = np.minimum(draw(length - 1 - self.steps[-1]) + self.steps, length - 1)
        top, left = draw(height - self.size), draw(width - self.size)
        clip = video[frames, top : top + self.size, left : left + self.size]
        clip = np.ascontiguousarray(clip.transpose(3, 0, 1, 2))
        return dict(inputs=torch.from_numpy(clip), data_samples=BaseDataElement(video=number))


def _decode(path: Path, short_side: int, max_frames: int) -> np.ndarray:
    """(frames, H, W, 3) RGB, uint8."""
    try:
        video = open_video(path)
        frames = []
        for begin in range(0, min(len(video), max_frames), CHUNK):
            end = min(begin + CHUNK, len(video), max_frames)
            frames += [_shrink(frame, short_side) for frame in video.get_batch(range(begin, end))]
        video.close()
    except VideoError as error:
        raise ValueError(f'{path}: {error}') from error
    return np.stack(frames)


def _shrink(frame: np.ndarray, short_side: int) -> np.ndarray:
    factor = short_side / min(frame.shape[:2])
    size = [max(round(side * factor), short_side) for side in frame.shape[1::-1]]
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
