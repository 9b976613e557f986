"""Videos decoded by torchcodec, of those kinds that it reads as the others do."""

import os

import numpy as np

from .checked import CheckedReader
from .errors import unsupported
from .parts import is_utf8, part_of
from .pyav import PyavReader

# Where torchcodec was found to seek wrongly, and to round colors in another way.
CONTAINERS = {'mpeg', 'mpegts'}
PIXELS = {'yuv420p10le', 'yuv420p12le'}


class TorchcodecReader(CheckedReader):
    """A video read by torchcodec; see :class:`bimm_mm.video.VideoReader`.

    torchcodec needs FFmpeg's libraries, which its wheel does not bring along. Its own choices of
    stream, order and colors are others in some kinds of files; the file's index decides (which PyAV
    reads): what torchcodec would answer otherwise is refused.

    Args:
        source: Path of a local file.
        num_threads: Threads of the decoder.

    Raises:
        ImportError: Torchcodec does not find FFmpeg.
        UnsupportedVideo: Torchcodec cannot read this kind of video, or would give other frames.
        VideoError: The file is no video.
    """

    backend = 'torchcodec'

    def __init__(self, source: str | os.PathLike | bytes, num_threads: int = 1) -> None:
        if isinstance(source, bytes):
            raise unsupported('torchcodec', 'from memory')
        path = os.fspath(source)
        decoder_class = _import_decoder()
        video = PyavReader(path)
        try:
            self.fps, self.shape, index = video.fps, video.shape, video.index
            _refuse(path, index, video.container)
        finally:
            video.close()
        try:
            self.decoder = decoder_class(
                path,
                stream_index=index.stream,
                dimension_order='NHWC',
                num_ffmpeg_threads=num_threads,
                seek_mode='exact',
            )
            count, shape = len(self.decoder), tuple(self.decoder[0].shape)
        except Exception as error:
            raise unsupported('torchcodec', f'this file ({self.first_line(error)})') from error
        self.check(index, count, shape)

    def decode(self, indices: np.ndarray) -> np.ndarray:
        """As :meth:`CheckedReader.decode`."""
        return self.decoder.get_frames_at(indices.tolist()).data.numpy()

    def close(self) -> None:
        """Close the file."""
        self.decoder = None


def _import_decoder() -> type:
    try:
        from torchcodec.decoders import VideoDecoder
    except (OSError, RuntimeError) as error:
        reason = str(error).strip().partition('\n')[0]
        raise ImportError(
            f'torchcodec is installed, but does not find the libraries of FFmpeg: {reason}'
        ) from error
    return VideoDecoder


def _refuse(path: str, index, container) -> None:
    """Raise an UnsupportedVideo for what torchcodec is known to answer otherwise."""
    width, height = index.size
    formats = container.format.name.split(',')
    known = (
        (part_of(path) is not None, 'a video in a tar file'),
        (not is_utf8(path), 'a file whose name is not UTF-8'),
        (not CONTAINERS.isdisjoint(formats), f'{formats[0]} files reliably'),
        (index.times is None, 'a file whose packets do not tell the times of their frames'),
        (index.packets - index.discarded != index.count, 'a file with packets that show no frame'),
        (not index.closed, 'open groups of pictures or intra refresh reliably'),
        (index.pixels in PIXELS, f'{index.pixels} with the same colors'),
        (width % 2 or height % 2, f'frames of {width}x{height} pixels with the same colors'),
    )
    for is_so, what in known:
        if is_so:
            raise unsupported('torchcodec', what)
