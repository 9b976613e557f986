"""What readers have in common whose frames are checked against the index that PyAV reads."""

from collections.abc import Sequence

import numpy as np

from .errors import VideoError, unsupported
from .index import Index


class CheckedReader:
    """Reader of a library that counts, orders or converts some frames in a way of its own.

    A subclass reads the index, refuses the kinds of files that its library answers otherwise, opens
    the file and calls :meth:`check`.

    Attributes:
        backend: Name of the library.
        shape: Height and width of the frames.
        count: Number of frames.
    """

    backend: str
    shape: tuple[int, int]
    count: int

    def check(self, index: Index, count: int, shape: tuple[int, ...]) -> None:
        """Compare the frames of the library with the index.

        Args:
            index: Of the file.
            count: Frames that the library finds.
            shape: Of the first, (H, W, 3).

        Raises:
            UnsupportedVideo: They are others.
        """
        if (count, shape) != (index.count, (*self.shape, 3)):
            raise unsupported(
                self.backend,
                f'this file (it takes {index.count} frames of {self.shape} for {count} '
                f'of {shape[:2]})',
            )
        self.count = count

    def __len__(self) -> int:
        return self.count

    def get_batch(self, indices: Sequence[int]) -> np.ndarray:
        """(N, H, W, 3) uint8 RGB, as :meth:`bimm_mm.video.VideoReader.get_batch`."""
        indices = np.asarray(indices, dtype=np.int64)
        if len(indices) and not 0 <= indices.min() <= indices.max() < self.count:
            raise IndexError(
                f'frames {indices.min()} to {indices.max()} of a video of {self.count}'
            )
        if not len(indices):
            return np.empty((0, *self.shape, 3), np.uint8)
        try:
            return self.decode(indices)
        except Exception as error:  # the libraries' errors have no common class
            raise VideoError(f'cannot be decoded ({self.first_line(error)})') from error

    def decode(self, indices: np.ndarray) -> np.ndarray:
        """Decode frames that are there, at least one: (N, H, W, 3) uint8 RGB."""
        raise NotImplementedError

    def read_into(self, indices: Sequence[int], out: np.ndarray) -> None:
        """As :meth:`get_batch`, into an array of that shape."""
        out[:] = self.get_batch(indices)

    @staticmethod
    def first_line(error: Exception) -> str:
        """What failed, in one line."""
        return str(error).strip().partition('\n')[0] or type(error).__name__
