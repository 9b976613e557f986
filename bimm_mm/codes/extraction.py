"""Make the codes of the videos of a data set."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch

from ..video.reader import VideoError, VideoReader, open_video
from .cache import CROPS, CodeCache, View


class Tokenizer(Protocol):
    """What is needed of a tokenizer, such as :class:`bimm_mm.models.BaseTokenizer`.

    It is built with ``mean=(0, 0, 0)`` and ``std=(1, 1, 1)``, as frames are not normalized here.
    """

    num_codes: int

    def __call__(self, frames: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) RGB, 0 to 255, to codes (N, H', W')."""


def sample_times(num_frames: int, video_fps: float, fps: float | None) -> np.ndarray:
    """Which frames of a video are encoded: all, or those at a lower or higher rate.

    Args:
        num_frames: Frames of the video.
        video_fps: Its rate; 0 where it is unknown, which is then taken for 25.
        fps: The wanted rate; None for all frames.

    Returns:
        Frame numbers, increasing; at least one.
    """
    if fps is None:
        return np.arange(num_frames)
    step = (video_fps or 25.0) / fps
    count = max(int(np.ceil(num_frames / step - 1e-6)), 1)
    return np.minimum((np.arange(count) * step).astype(int), num_frames - 1)


def cut_view(frame: np.ndarray, view: View) -> np.ndarray:
    """Resize, crop and flip a frame: (H, W, 3) uint8 to (size, size, 3)."""
    height, width = frame.shape[:2]
    scale = view.resize / min(height, width)
    height, width = (max(round(side * scale), view.resize) for side in (height, width))
    if (height, width) != frame.shape[:2]:
        shrinks = scale < 1
        how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        frame = cv2.resize(frame, (width, height), interpolation=how)
    part = CROPS.index(view.crop)  # 0, 1 or 2 halves of what is left over
    top, left = (part * (side - view.size) // 2 for side in (height, width))
    frame = frame[top : top + view.size, left : left + view.size]
    return frame[:, ::-1] if view.flip else frame


def encode_video(
    reader: VideoReader,
    tokenizer: Tokenizer,
    views: Sequence[View],
    fps: float | None,
    device: torch.device | str = 'cpu',
    frames_at_once: int = 64,
) -> np.ndarray:
    """Encode the frames of a video in several views.

    Args:
        reader: The open video.
        tokenizer: Makes the codes.
        views: How frames are turned into squares, all of the same size.
        fps: Frames per second; None for all frames.
        device: Where to encode.
        frames_at_once: Frames that are decoded and encoded together.

    Returns:
        (views, frames, rows, columns) uint16.
    """
    times = sample_times(len(reader), reader.fps, fps)
    parts = []
    for start in range(0, len(times), frames_at_once):
        frames = reader.get_batch(times[start : start + frames_at_once].tolist())
        codes = []
        for view in views:
            cut = np.stack([cut_view(frame, view) for frame in frames])  # (n, S, S, 3)
            pixels = torch.from_numpy(cut).to(device).permute(0, 3, 1, 2).float()
            codes.append(tokenizer(pixels).to(torch.int32).cpu().numpy().astype(np.uint16))
        parts.append(np.stack(codes))
    return np.concatenate(parts, axis=1)


class CodeExtractor:
    """Makes the files of a cache that are not there yet.

    Args:
        folder: The folder of the videos.
        cache: The cache, begun by :func:`write_manifest`.
        tokenizer: As of :func:`encode_video`.
        device: Where to encode.

    Attributes:
        broken: Videos that could not be read.
    """

    def __init__(
        self,
        folder: str | Path,
        cache: CodeCache,
        tokenizer: Tokenizer,
        device: torch.device | str = 'cpu',
    ) -> None:
        if tokenizer.num_codes > np.iinfo(np.uint16).max + 1:
            raise ValueError(
                f'the tokenizer has {tokenizer.num_codes} codes; a cache holds 65536 at most'
            )
        self.folder, self.cache = Path(folder), cache
        self.tokenizer, self.device = tokenizer, device
        self.broken: list[str] = []

    def run(self, names: Sequence[str]) -> Iterator[tuple[str, int]]:
        """Make what is missing, one video after the other.

        Args:
            names: Paths below the folder.

        Yields:
            The name, and the number of frames that were encoded: 0 for a video whose codes were
            there already or that cannot be read.
        """
        for name in names:
            if self.cache.file_of(name).exists():
                yield name, 0
                continue
            try:
                codes = self.encode(self.folder / name)
            except (VideoError, OSError) as error:
                print(f'cannot read {self.folder / name}: {str(error)[:200]}', file=sys.stderr)
                self.broken.append(name)
                yield name, 0
                continue
            self.cache.write(name, codes)
            yield name, codes.shape[1]

    def encode(self, path: Path) -> np.ndarray:
        """The codes of one video, as :func:`encode_video`."""
        reader = open_video(path)
        try:
            fps, views = self.cache.manifest['fps'], self.cache.views
            return encode_video(reader, self.tokenizer, views, fps, self.device)
        finally:
            reader.close()
