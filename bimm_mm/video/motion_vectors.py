"""Motion vectors of a compressed video, as FFmpeg's decoders export them."""

import os
from collections.abc import Sequence

import numpy as np

from .pyav import PyavReader

CELL = 8  # pixels; the smallest block that is exported


class MotionVectorReader(PyavReader):
    """A video whose motion vectors are read instead of its pixels.

    FFmpeg exports them for H.264, MPEG-4 and MPEG-1/2; for other codecs, as VP9, AV1 and HEVC, all
    are zero. What is known is the difference to a frame that was decoded before, as a rule the
    neighbor, but how far away it is, is not told.

    Args:
        source: As of :class:`PyavReader`.
        num_threads: As of :class:`PyavReader`.

    Raises:
        VideoError: As :class:`PyavReader`.
    """

    def __init__(self, source: str | os.PathLike | bytes, num_threads: int = 1) -> None:
        super().__init__(source, num_threads)
        self._restart()  # with the option: what was decoded for the index was without

    def _open(self):
        container, stream = super()._open()
        stream.codec_context.options = {'flags2': '+export_mvs'}
        return container, stream

    def get_vectors(self, indices: Sequence[int]) -> np.ndarray:
        """How far what is in each cell of 8 x 8 pixels moved to get there, or will move.

        A frame without any, as a key frame, takes those of the frame before in ``indices``, or
        else behind it.

        Args:
            indices: Frame numbers.

        Returns:
            (N, rows, columns, 2) float32, in pixels to the right and down, of frames the right way
            up; all zero where the codec gives none.

        Raises:
            IndexError, VideoError: As :meth:`PyavReader.get_batch`.
        """
        wanted, places = np.unique(np.asarray(indices, dtype=np.int64), return_inverse=True)
        if len(wanted) and not 0 <= wanted[0] <= wanted[-1] < len(self):
            raise IndexError(f'frames {wanted[0]} to {wanted[-1]} of a video of {len(self)}')
        width, height = self.size
        cells = (-(-height // CELL), -(-width // CELL))
        maps = np.zeros((len(wanted), *cells, 2), np.float32)
        known = np.zeros(len(wanted), bool)
        for number, frame in self._frames(wanted):
            vectors = frame.side_data.get('MOTION_VECTORS')
            if vectors is not None:
                maps[number] = spread_blocks(vectors.to_ndarray(), cells)
                known[number] = True
        if known.any():
            last = np.maximum.accumulate(np.where(known, np.arange(len(wanted)), -1))
            maps = maps[np.where(last < 0, np.argmax(known), last)]
        for _ in range(self.turns % 4):  # counterclockwise, a quarter each
            maps = np.rot90(maps, 1, (1, 2))
            maps = np.stack([maps[..., 1], -maps[..., 0]], axis=-1)
        return maps[places]


def spread_blocks(vectors: np.ndarray, cells: tuple[int, int]) -> np.ndarray:
    """Spread the vectors of blocks over cells; where several blocks refer, their mean.

    Args:
        vectors: Records of FFmpeg's AVMotionVector.
        cells: Rows and columns.

    Returns:
        (rows, columns, 2) float32.
    """
    scale = np.maximum(vectors['motion_scale'], 1).astype(np.float32)
    # from where it came, in a frame before; to where it goes, in one behind
    sign = np.where(vectors['source'] < 0, -1, 1) / scale
    moved = np.stack([vectors['motion_x'] * sign, vectors['motion_y'] * sign], axis=1)
    total = np.zeros((*cells, 2), np.float32)
    count = np.zeros(cells, np.float32)
    width, height = vectors['w'].astype(int), vectors['h'].astype(int)
    left = vectors['dst_x'].astype(int) - width // 2
    top = vectors['dst_y'].astype(int) - height // 2
    for down in range(0, int(height.max(initial=0)), CELL):
        for across in range(0, int(width.max(initial=0)), CELL):
            row, column = (top + down) // CELL, (left + across) // CELL
            inside = (down < height) & (across < width)
            inside &= (row >= 0) & (row < cells[0]) & (column >= 0) & (column < cells[1])
            np.add.at(total, (row[inside], column[inside]), moved[inside])
            np.add.at(count, (row[inside], column[inside]), 1)
    return total / np.maximum(count, 1)[..., None]
