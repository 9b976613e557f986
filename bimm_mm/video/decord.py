"""Videos decoded by decord, of those kinds that it reads as the others do."""

import os
import re

import decord
import numpy as np

from .checked import CheckedReader
from .errors import unsupported
from .index import films_of
from .parts import is_utf8, part_of
from .pyav import PyavReader

# Where decord was found to give ffmpeg's frames, to the bit, also after it sought.
CONTAINERS = {'mov', 'matroska', 'flv'}
PIXELS = {'yuv420p', 'yuvj420p', 'yuv444p', 'gbrp'}


class DecordReader(CheckedReader):
    """A video read by decord; see :class:`bimm_mm.video.VideoReader`.

    decord counts frames that an edit list hides, takes hidden frames of VP8 for shown ones, seeks
    to wrong frames in AVI, MPEG and ASF files and where groups of pictures are open, and converts
    some pixel formats in a way of its own. So the file's index decides (which PyAV reads): what
    decord would answer otherwise is refused.

    Args:
        source: Path of a local file. (decord crashes on some damaged files that it is given as
            bytes, and copies them; so it is not.)
        num_threads: Threads of the decoder.

    Raises:
        UnsupportedVideo: Decord cannot read this kind of video, or would give other frames.
        VideoError: The file is no video.
    """

    backend = 'decord'

    def __init__(self, source: str | os.PathLike | bytes, num_threads: int = 1) -> None:
        if isinstance(source, bytes):
            raise unsupported('decord', 'from memory')
        path = os.fspath(source)
        video = PyavReader(path)
        try:
            self.fps, self.shape, index = video.fps, video.shape, video.index
            _refuse(path, index, video.container, video.stream)
        finally:
            video.close()
        try:
            self.reader = decord.VideoReader(path, num_threads=num_threads)
            count, shape = len(self.reader), self.reader[0].shape
        except Exception as error:  # decord's errors have no common class below
            raise unsupported('decord', f'this file ({self.first_line(error)})') from error
        self.check(index, count, shape)

    def decode(self, indices: np.ndarray) -> np.ndarray:
        """As :meth:`CheckedReader.decode`."""
        return self.reader.get_batch(indices).asnumpy()

    @staticmethod
    def first_line(error: Exception) -> str:
        """What failed; decord puts the time and a place in its source code before it."""
        first = re.sub(r'\[\d\d:\d\d:\d\d\] \S+: ', '', str(error)).strip().partition('\n')[0]
        return first or type(error).__name__

    def close(self) -> None:
        """Close the file."""
        self.reader = None


def _refuse(path: str, index, container, stream) -> None:
    """Raise an UnsupportedVideo for what decord is known to answer otherwise."""
    width, height = index.size
    formats = container.format.name.split(',')
    known = (
        (part_of(path) is not None, 'a video in a tar file'),
        (not is_utf8(path), 'a file whose name is not UTF-8'),
        (CONTAINERS.isdisjoint(formats), f'{formats[0]} files reliably'),
        (stream.codec_context.name in ('av1', 'libdav1d'), 'AV1'),
        (len(films_of(container)) > 1, 'a file of several video streams reliably'),
        (index.discarded, 'a file whose edit list hides frames'),
        (index.packets != index.count, 'a file with packets that show no frame'),
        (index.times is None, 'a file whose packets do not tell the times of their frames'),
        (not index.closed, 'open groups of pictures or intra refresh'),
        (index.pixels not in PIXELS, f'{index.pixels} with the same colors'),
        (width % 2 or height % 2 or width < 32, f'frames of {width}x{height} pixels'),
    )
    for is_so, what in known:
        if is_so:
            raise unsupported('decord', what)
