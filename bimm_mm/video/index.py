"""Which frames a video has: read once from its packets, and kept for the next opening."""

import os
from collections import OrderedDict
from dataclasses import dataclass
from itertools import chain

import av
import numpy as np
from av.error import FFmpegError

from .errors import VideoError

# Containers in which every packet has the time at which its frame is shown.
WITH_TIMES = {'mov', 'matroska', 'flv', 'mpegts', 'mpeg', 'asf', 'ogg', 'gif', 'mjpeg'}
# Codecs whose frames are shown in the order in which they are stored, in any container.
INTRA_ONLY = {'mjpeg', 'rawvideo', 'ffv1', 'huffyuv', 'ffvhuff', 'prores', 'dnxhd', 'utvideo'}

CACHE_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Index:
    """The frames of a stream.

    Attributes:
        stream: Number of the stream in the container.
        count: Frames.
        times: Presentation times of the frames in the stream's time base, rising; None if packets
            do not tell them, so that frames can only be counted from the first one on.
        keys: Presentation times of the packets that decoding can start at, rising.
        closed: Whether no frame after a key frame needs one before it.
        packets: Packets of the stream, also those whose frames are not shown.
        discarded: Packets that an edit list hides.
        size: (width, height) of the first frame, as it is stored.
        turns: Quarter turns, counter-clockwise, that put the frames upright.
        pixels: Ffmpeg's name of the pixel format.
    """

    stream: int
    count: int
    times: np.ndarray | None
    keys: np.ndarray
    closed: bool
    packets: int
    discarded: int
    size: tuple[int, int]
    turns: int
    pixels: str

    @property
    def nbytes(self) -> int:
        """Size in memory."""
        return 300 + self.keys.nbytes + (0 if self.times is None else self.times.nbytes)


def choose_stream(container: 'av.container.InputContainer') -> 'av.video.stream.VideoStream':
    """The video stream that the ffmpeg command takes, but never a cover picture.

    Raises:
        VideoError: There is none, or no decoder for it, or the file is a picture.
    """
    name = container.format.name
    if name.endswith('_pipe') or name == 'image2':
        raise VideoError(f'a picture, not a video ({name.removesuffix("_pipe")})')
    streams = films_of(container)
    if not streams:
        pictures = len(container.streams.video)
        raise VideoError('no video stream' + (', only a cover picture' if pictures else ''))

    def score(stream: 'av.video.stream.VideoStream') -> int:
        is_default = bool(stream.disposition & av.stream.Disposition.default)
        context = stream.codec_context
        return (context.width * context.height if context else 0) + 5_000_000 * is_default

    stream = max(streams, key=score)  # the first one of equals
    if stream.codec_context is None:
        raise VideoError('there is no decoder for its codec in this PyAV')
    return stream


def films_of(container) -> list:
    """The video streams that are no cover pictures."""
    cover = av.stream.Disposition.attached_pic
    return [stream for stream in container.streams.video if not stream.disposition & cover]


def packets_of(container, stream):
    """The packets of a stream that hold data, up to where the file is damaged or ends."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, FFmpegError):
            return
        if packet.size:
            yield packet


def decode_all(container, stream):
    """All frames of a stream in the order of the decoder; packets that it refuses are left out."""
    for packet in chain(packets_of(container, stream), [None]):
        yield from decode(stream.codec_context, packet)


def decode(context, packet) -> list:
    """The frames that come out; none where a packet is damaged."""
    try:
        return context.decode(packet)
    except FFmpegError:
        return []


def make_index(container, stream, reopen) -> Index:
    """Read the packets of a freshly opened container; decode it where they do not tell enough.

    Args:
        container, stream: Of PyAV; positioned anywhere afterwards.
        reopen: A context manager that gives another container and stream of the same file.

    Raises:
        VideoError: There is no packet, or none that can be decoded.
    """
    codec, extradata = stream.codec_context.name, stream.codec_context.extradata
    annex_b = not extradata or extradata[0] != 1
    first, times, keys, shown, discarded, closed = None, [], [], [], 0, True
    for packet in packets_of(container, stream):
        times.append(packet.pts)
        if packet.is_keyframe:
            keys.append(packet.pts)
            closed &= codec != 'h264' or _is_idr(memoryview(packet), annex_b)
        discarded += packet.is_discard
        shown.append(not packet.is_discard and not _is_hidden(packet, codec))
        if first is None:
            first = next(iter(decode(stream.codec_context, packet)), None)
    if first is None and times:
        first = next(iter(decode(stream.codec_context, None)), None)
    if first is None:
        raise VideoError('no frame')
    formats = set(container.format.name.split(','))
    known = formats & WITH_TIMES or codec in INTRA_ONLY
    # a first frame that is not a key frame, or that others precede, may lack what it refers to
    if known and _are_times(times) and keys and keys[0] == times[0] == min(times):
        frames = np.sort(np.array(times)[np.array(shown)])
        count = len(frames)
        closed = closed and _follow(times, keys)
        keys = np.sort(np.array(keys))
    else:
        with reopen() as (again, same):
            count, frames, keys = sum(1 for _ in decode_all(again, same)), None, np.empty(0)
        closed = False
    return Index(
        stream=stream.index,
        count=count,
        times=frames,
        keys=keys,
        closed=closed,
        packets=len(times),
        discarded=discarded,
        size=(first.width, first.height),
        turns=round(first.rotation / 90) % 4,
        pixels=first.format.name,
    )


def _are_times(times: list) -> bool:
    """Whether all are there, each once."""
    return None not in times and len(set(times)) == len(times)


def _follow(times: list[int], keys: list[int]) -> bool:
    """Whether all that comes after a key frame is shown after it, too."""
    places = {time: place for place, time in enumerate(times)}
    least = np.minimum.accumulate(np.array(times)[::-1])[::-1]
    return all(least[places[key]] == key for key in keys)


def _is_idr(packet: memoryview, annex_b: bool) -> bool:
    """Whether a packet of H.264 has an IDR picture, before which nothing is referred to."""
    if annex_b:  # after each start code, a unit with its type in the last five bits
        units = bytes(packet).split(b'\0\0\1')[1:]
        return any(unit and unit[0] & 31 == 5 for unit in units)
    place = 0  # units follow their lengths, of four bytes in all but odd files
    while place + 4 < len(packet):
        if packet[place + 4] & 31 == 5:
            return True
        place += 4 + int.from_bytes(packet[place : place + 4], 'big')
    return False


def _is_hidden(packet, codec: str) -> bool:
    """Whether a packet only serves others: VP8's alternate reference frames are not shown."""
    return codec in ('vp8', 'libvpx') and not memoryview(packet)[0] >> 4 & 1


class IndexCache:
    """Indices of the files that were opened last, within some size in memory."""

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self.limit, self.size = limit, 0
        self.entries: OrderedDict[tuple, Index] = OrderedDict()

    def key_of(self, source: str, path: str) -> tuple:
        """Changes when the file does."""
        status = os.stat(path)
        return source, status.st_size, status.st_mtime_ns

    def get(self, key: tuple) -> Index | None:
        """The index, if it is still there."""
        if key in self.entries:
            self.entries.move_to_end(key)
        return self.entries.get(key)

    def put(self, key: tuple, index: Index) -> None:
        """Keep an index, and let those go that were not used for longest."""
        self.entries[key] = index
        self.size += index.nbytes
        while self.size > self.limit and len(self.entries) > 1:
            self.size -= self.entries.popitem(last=False)[1].nbytes


INDICES = IndexCache()
