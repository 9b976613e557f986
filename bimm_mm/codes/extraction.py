"""Make the codes of the videos or the images of a data set."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch

from ..utils.media import read_image
from ..video.reader import VideoError, VideoReader, open_video
from .cache import CROPS, WHOLE, CodeCache, View


class Tokenizer(Protocol):
    """What is needed of a tokenizer, such as :class:`bimm_mm.models.BaseTokenizer`.

    It is built with ``mean=(0, 0, 0)`` and ``std=(1, 1, 1)``, as frames are not normalized here.
    """

    num_codes: int

    def __call__(self, frames: torch.Tensor, grid: tuple[int, int] | None = None) -> torch.Tensor:
        """(N, 3, H, W) RGB, 0 to 255, to codes (N, H', W'), of ``grid`` where it is given."""


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


def scaled_size(size: tuple[int, int], short_side: int) -> tuple[int, int]:
    """Height and width of a frame of ``size`` whose shorter side is resized to ``short_side``."""
    scale = short_side / min(size)
    return tuple(max(round(side * scale), short_side) for side in size)


def resize_frame(frame: np.ndarray, short_side: int) -> np.ndarray:
    """Resize a frame (H, W, C) uint8 to :func:`scaled_size`; as it is where it has that size.

    Codes made beforehand and random crops whose codes are cut out of them both come here.
    """
    height, width = scaled_size(frame.shape[:2], short_side)
    if (height, width) == frame.shape[:2]:
        return frame
    shrinks = height < frame.shape[0] or width < frame.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(frame, (width, height), interpolation=how)


def cut_view(frame: np.ndarray, view: View, pixels_per_code: int = 1) -> np.ndarray:
    """Resize, crop and flip a frame.

    Args:
        frame: (H, W, 3) uint8.
        view: How.
        pixels_per_code: Of what the sides of a whole frame become multiples.

    Returns:
        (size, size, 3), or of a whole frame (size, longer side, 3) or (longer side, size, 3).
    """
    frame = resize_frame(frame, view.resize)
    height, width = frame.shape[:2]
    if view.crop == WHOLE:
        frame = frame[: height - height % pixels_per_code, : width - width % pixels_per_code]
    else:
        part = CROPS.index(view.crop)  # 0, 1 or 2 halves of what is left over
        top, left = (part * (side - view.size) // 2 for side in (height, width))
        frame = frame[top : top + view.size, left : left + view.size]
    return frame[:, ::-1] if view.flip else frame


def encode_frames(
    frames: Sequence[np.ndarray],
    tokenizer: Tokenizer,
    cache: CodeCache,
    device: torch.device | str = 'cpu',
) -> np.ndarray:
    """Encode frames, (H, W, 3) uint8 RGB, in all views of a cache.

    Returns:
        (views, frames, rows, columns) uint16.
    """
    codes = []
    for view in cache.views:
        pixels_per_code = cache.pixels_per_code(view)
        cut = np.stack([cut_view(frame, view, pixels_per_code) for frame in frames])
        pixels = torch.from_numpy(cut).to(device).permute(0, 3, 1, 2).float()  # (n, 3, h, w)
        grid = None
        if view.pixels_per_code is not None:
            grid = tuple(side // pixels_per_code for side in cut.shape[1:3])
        found = tokenizer(pixels, grid)
        codes.append(found.to(torch.int32).cpu().numpy().astype(np.uint16))
    return np.stack(codes)


def encode_video(
    reader: VideoReader,
    tokenizer: Tokenizer,
    cache: CodeCache,
    device: torch.device | str = 'cpu',
    frames_at_once: int = 64,
) -> np.ndarray:
    """Encode the frames of a video in all views of a cache, at its rate.

    Args:
        reader: The open video.
        tokenizer: Makes the codes.
        cache: Says at which rate frames are taken, and how they are turned into what is encoded.
        device: Where to encode.
        frames_at_once: Frames that are decoded and encoded together.

    Returns:
        (views, frames, rows, columns) uint16.
    """
    times = sample_times(len(reader), reader.fps, cache.manifest['fps'])
    parts = []
    for start in range(0, len(times), frames_at_once):
        frames = reader.get_batch(times[start : start + frames_at_once].tolist())
        parts.append(encode_frames(frames, tokenizer, cache, device))
    return np.concatenate(parts, axis=1)


class CodeExtractor:
    """Makes the files of a cache that are not there yet.

    Args:
        folder: The folder of the videos or images.
        cache: The cache, begun by :func:`write_manifest`.
        tokenizer: As of :func:`encode_video`.
        device: Where to encode.
        kind: 'videos' or 'images'.

    Attributes:
        broken: Files that could not be read.
    """

    def __init__(
        self,
        folder: str | Path,
        cache: CodeCache,
        tokenizer: Tokenizer,
        device: torch.device | str = 'cpu',
        kind: str = 'videos',
    ) -> None:
        if tokenizer.num_codes > np.iinfo(np.uint16).max + 1:
            raise ValueError(
                f'the tokenizer has {tokenizer.num_codes} codes; a cache holds 65536 at most'
            )
        self.folder, self.cache = Path(folder), cache
        self.tokenizer, self.device, self.kind = tokenizer, device, kind
        self.broken: list[str] = []

    def run(self, names: Sequence[str]) -> Iterator[tuple[str, int]]:
        """Make what is missing, one file after the other.

        Args:
            names: Paths below the folder.

        Yields:
            The name, and the number of frames that were encoded: 0 for a file whose codes were
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
        """The codes of one video, as :func:`encode_video`, or of one image."""
        if self.kind == 'images':
            try:
                image = read_image(path)
            except ValueError as error:
                raise OSError(str(error)) from error
            return encode_frames([image], self.tokenizer, self.cache, self.device)
        reader = open_video(path)
        try:
            return encode_video(reader, self.tokenizer, self.cache, self.device)
        finally:
            reader.close()
