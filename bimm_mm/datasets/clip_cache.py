"""Samples of one shape that are made once and kept: in memory, or in a file."""

import hashlib
import json
import mmap
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np


class ClipCache:
    """Keep samples of uint8 once made.

    Without a folder they are in memory that forked workers share. With one they are in a file of
    it, named by what describes the samples, which later processes and other data sets of the same
    description find; pages of it that are not in use cost no memory.

    Args:
        shape: Number of samples, and the shape of one.
        folder: Of files; None for memory.
        key: What the samples depend on, of plain types.

    Raises:
        MemoryError: There is not so much memory.
        OSError: The file cannot be made.
    """

    def __init__(
        self, shape: tuple[int, ...], folder: str | os.PathLike | None = None, key: object = None
    ) -> None:
        num_bytes = shape[0] * (1 + int(np.prod(shape[1:])))
        try:
            memory = np.frombuffer(_map(num_bytes, folder, key), dtype=np.uint8)
        except (ValueError, OverflowError) as error:
            raise MemoryError(f'{num_bytes / 2**30:.1f} GiB cannot be mapped') from error
        self.made, samples = memory[: shape[0]], memory[shape[0] :]
        self.samples = samples.reshape(shape)

    def get(self, index: int, make: Callable[[], np.ndarray]) -> np.ndarray:
        """A copy of sample ``index``, which ``make`` makes where it is not there."""
        if not self.made[index]:
            self.samples[index] = make()
            self.made[index] = True  # last, as another process may be looking
        return self.samples[index].copy()


def _map(num_bytes: int, folder: str | os.PathLike | None, key: object) -> mmap.mmap:
    """Anonymous memory, or a file that starts as zeros."""
    # Anonymous mappings are shared by forked workers, take up memory only where they were
    # written, and are not bound by the size of /dev/shm, which is small in containers.
    if folder is None:
        try:
            return mmap.mmap(-1, num_bytes)
        except OSError as error:
            raise MemoryError(str(error)) from error
    text = json.dumps([num_bytes, key], sort_keys=True, default=_plain)
    Path(folder).mkdir(parents=True, exist_ok=True)
    path = Path(folder) / f'clips-{hashlib.sha1(text.encode()).hexdigest()[:12]}.bin'
    with open(path, 'a+b') as file:  # made where it is not there, else left as it is
        if file.seek(0, os.SEEK_END) < num_bytes:
            file.truncate(num_bytes)  # sparse: takes up space where it was written
        return mmap.mmap(file.fileno(), num_bytes)


def _plain(value: object) -> object:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return dict(value) if isinstance(value, Mapping) else str(value)
