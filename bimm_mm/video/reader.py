"""One protocol for reading videos, and the choice of the backend that decodes them."""

import os
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Protocol

import numpy as np

from .errors import UnsupportedVideo, VideoError, VideoTimeout
from .parts import file_of

__all__ = [
    'BACKENDS',
    'UnsupportedVideo',
    'VideoError',
    'VideoReader',
    'VideoTimeout',
    'check_file',
    'installed_backends',
    'open_video',
]

# Module of this package, class and Python package of each backend, the default first.
BACKENDS = {
    'pyav': ('pyav', 'PyavReader', 'av'),
    'decord': ('decord', 'DecordReader', 'decord'),
    'torchcodec': ('torchcodec', 'TorchcodecReader', 'torchcodec'),
}

Source = str | os.PathLike | bytes


class VideoReader(Protocol):
    """An open video.

    docs/videos.md says which stream is read, which of its frames count, in which order, and which
    way up they are. Every backend gives the same answer, to the bit, or refuses the file.

    Attributes:
        backend: Name of the backend that decodes.
        fps: Average frames per second; 0.0 if unknown.
        shape: (height, width) of every frame, as shown.
    """

    backend: str
    fps: float
    shape: tuple[int, int]

    def __len__(self) -> int:
        """Number of frames."""

    def get_batch(self, indices: Sequence[int]) -> np.ndarray:
        """Decode frames.

        Args:
            indices: Frame numbers, from 0, in any order and also several times.

        Returns:
            (N, H, W, 3) uint8, RGB; no frame shares memory with another one.

        Raises:
            IndexError: There is no such frame.
            VideoError: A frame cannot be decoded.
        """

    def close(self) -> None:
        """Release the file; nothing can be read any more."""


def open_video(
    source: Source,
    backend: str | None = None,
    *,
    num_threads: int = 1,
    timeout: float | None = None,
) -> VideoReader:
    """Open a video.

    Args:
        source: Path of a local file, or of a video in a tar shard (see :mod:`.parts`), or the
            content of a file as bytes.
        backend: 'pyav', 'decord' or 'torchcodec'; by default, the first of them that is installed.
        num_threads: Threads of the decoder.
        timeout: Seconds that opening and each request may take. The video is then decoded in a
            process of its own, so that neither a hang nor a crash of the decoder does any harm.
            None decodes in this process.

    Returns:
        A :class:`VideoReader`.

    Raises:
        OSError: The file is missing or may not be read.
        VideoError: It is no video, or cannot be decoded; an :class:`UnsupportedVideo` if another
            backend can, a :class:`VideoTimeout` if it took too long.
        ImportError: The backend is not installed.
        ValueError: There is no such backend, or ``timeout`` is not positive.
    """
    if timeout is not None:
        from .isolated import IsolatedReader

        return IsolatedReader(source, backend, num_threads, timeout)
    name = backend or next(iter(installed_backends()), 'pyav')
    if name not in BACKENDS:
        raise ValueError(f'backend={backend!r} must be one of {", ".join(BACKENDS)}')
    module, reader, package = BACKENDS[name]
    check_file(source)
    if name not in installed_backends():
        raise ImportError(f'{name} is to decode videos, but is missing: pip install {package}')
    module = import_module(f'.{module}', __package__)
    return getattr(module, reader)(source, num_threads)


@cache
def installed_backends() -> list[str]:
    """Names of the backends whose Python package is installed, the default first."""
    return [name for name, (_, _, package) in BACKENDS.items() if find_spec(package) is not None]


def check_file(source: Source) -> None:
    """Raise the error of the operating system, or a VideoError if there is nothing to read."""
    if isinstance(source, bytes):
        if not source:
            raise VideoError('empty file')
        return
    with open(file_of(source), 'rb') as file:
        if not file.read(1):
            raise VideoError('empty file')
