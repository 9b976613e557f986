"""Videos decoded by PyAV: seeks once, and decodes no more frames than needed."""

import io
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain

import av
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter

from .errors import VideoError
from .index import INDICES, Index, choose_stream, decode, decode_all, make_index, packets_of
from .parts import file_of, part_of

# To seek empties the decoder, and reads and throws away what lies before: about as long as this
# many frames of 340x256 take to decode, or only to read.
DECODED_FRAMES, SKIPPED_FRAMES = 10, 60
# Codecs with frames that no other one refers to, which the decoder recognizes before it decodes.
SKIPPABLE = {'h264', 'mpeg4', 'mpeg2video', 'mpeg1video'}
# Tags that are no UTF-8 are no error. PyAV 19 has no such argument any more.
LENIENT = {'metadata_errors': 'ignore'} if int(av.__version__.split('.')[0]) < 19 else {}
# Filters that turn frames by so many quarter turns, counter-clockwise.
TURNS = {
    1: [('transpose', 'cclock')],
    2: [('hflip', None), ('vflip', None)],
    3: [('transpose', 'clock')],
}


class PyavReader:
    """A video read by PyAV; see :class:`bimm_mm.video.VideoReader`.

    Args:
        source: Path of a local file, or its content as bytes.
        num_threads: Threads of the decoder; 0 lets FFmpeg choose.

    Raises:
        VideoError: There is no frame of video, or it cannot be opened.
    """

    backend = 'pyav'

    def __init__(self, source: str | os.PathLike | bytes, num_threads: int = 1) -> None:
        self.source = source if isinstance(source, bytes) else os.fspath(source)
        self.num_threads = num_threads
        self.reformatter, self.graph = VideoReformatter(), None
        self.container, self.stream = self._open()
        try:
            self.index = self._find_index()
            if not self.index.count:
                raise VideoError('no frame')
            self.fps = float(self.stream.average_rate or self.stream.guessed_rate or 0)
            self.size, self.turns = self.index.size, self.index.turns
            self.shape = self.size if self.turns % 2 else self.size[::-1]
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return self.index.count

    def close(self) -> None:
        """Close the file."""
        self.container.close()

    def get_batch(self, indices: Sequence[int]) -> np.ndarray:
        """(N, H, W, 3) uint8 RGB, as :meth:`bimm_mm.video.VideoReader.get_batch`."""
        out = np.empty((len(indices), *self.shape, 3), np.uint8)
        self.read_into(indices, out)
        return out

    def read_into(self, indices: Sequence[int], out: np.ndarray) -> None:
        """As :meth:`get_batch`, into an array of that shape."""
        wanted, places = np.unique(np.asarray(indices, dtype=np.int64), return_inverse=True)
        if not len(wanted):
            return
        if not 0 <= wanted[0] <= wanted[-1] < len(self):
            raise IndexError(f'frames {wanted[0]} to {wanted[-1]} of a video of {len(self)}')
        first = {int(place): number for number, place in reversed(list(enumerate(places.ravel())))}
        for number, frame in self._frames(wanted):
            self._write(frame, out[first[number]])
        for number, place in enumerate(places.ravel()):
            if first[int(place)] != number:
                out[number] = out[first[int(place)]]

    def all_frames(self) -> Iterator['av.VideoFrame']:
        """All frames from the first one on, as they are stored; damaged ones are left out."""
        with self.opened_again() as (container, stream):
            yield from decode_all(container, stream)

    def upright_frames(self) -> Iterator[tuple[int, 'av.VideoFrame']]:
        """As :meth:`all_frames`, turned upright and progressive, with their times from 0 on."""
        times, filters = self.index.times, TURNS.get(self.turns, [])
        graph = None
        for number, frame in enumerate(self.all_frames()):
            time = number if times is None else frame.pts - int(times[0])
            if filters or frame.interlaced_frame:
                graph = graph or progressive_graph(self.stream, filters)
                graph.push(frame)
                frame = graph.pull()
            yield time, frame

    # opening ------------------------------------------------------------------------------------

    def _open(self):
        """A container and the stream to read."""
        source = self.source
        if isinstance(source, bytes):
            file = io.BytesIO(source)
        else:  # else ffmpeg takes what stands before a colon for a protocol
            part = part_of(source)
            file = f'file:{source}' if part is None else part.url
        try:
            container = av.open(file, **LENIENT)
        except FFmpegError as error:
            raise VideoError(f'cannot be opened ({error.strerror})') from error
        try:
            stream = choose_stream(container)
        except VideoError:
            container.close()
            raise
        stream.codec_context.thread_count = self.num_threads
        if self.num_threads != 1:
            stream.thread_type = 'AUTO'
        return container, stream

    @contextmanager
    def opened_again(self):
        """Another container and stream of the same file, at its beginning."""
        container, stream = self._open()
        try:
            yield container, stream
        finally:
            container.close()

    def _restart(self) -> None:
        """Go to the first packet: not every container can seek there."""
        self.container.close()
        self.container, self.stream = self._open()

    def _find_index(self) -> Index:
        if isinstance(self.source, bytes):
            return make_index(self.container, self.stream, self.opened_again)
        key = INDICES.key_of(self.source, file_of(self.source))
        index = INDICES.get(key)
        if index is None:
            index = make_index(self.container, self.stream, self.opened_again)
            INDICES.put(key, index)
        return index

    # decoding -----------------------------------------------------------------------------------

    def _write(self, frame: 'av.VideoFrame', out: np.ndarray) -> None:
        """Convert a frame to RGB and turn it upright."""
        width, height = self.size
        if frame.interlaced_frame:
            self.graph = self.graph or progressive_graph(self.stream)
            self.graph.push(frame)
            frame = self.graph.pull()
        rgb = self.reformatter.reformat(frame, width, height, 'rgb24')
        plane = rgb.planes[0]
        rows = np.frombuffer(plane, np.uint8, plane.line_size * height).reshape(height, -1)
        picture = rows[:, : 3 * width].reshape(height, width, 3)
        out[:] = np.rot90(picture, self.turns) if self.turns else picture

    def _frames(self, wanted: np.ndarray) -> Iterator[tuple[int, 'av.VideoFrame']]:
        """Places in ``wanted``, which rises, and the frames, in this order.

        Raises:
            VideoError: A frame cannot be decoded.
        """
        if self.index.times is None:
            yield from self._count_frames(wanted)
            return
        times = self.index.times[wanted].tolist()
        done = 0
        for place, frame in self._seek_frames(wanted, times):
            yield place, frame
            done = place + 1
        if done == len(wanted):
            return
        # Seeking went wrong, as it does in some containers, or the decoder needs more than one
        # key frame to recover, as with intra refresh.
        self._restart()
        for place, frame in self._run(times, done):
            yield place, frame
            done = place + 1
        if done < len(wanted):
            raise VideoError(f'frame {wanted[done]} of {len(self)} cannot be decoded')

    def _count_frames(self, wanted: np.ndarray) -> Iterator[tuple[int, 'av.VideoFrame']]:
        """Decode from the first frame on."""
        self._restart()
        places = {int(index): place for place, index in enumerate(wanted)}
        count = 0
        for count, frame in enumerate(decode_all(self.container, self.stream)):
            if count in places:
                yield places[count], frame
            if count == wanted[-1]:
                return
        raise VideoError(f'frame {count + 1} of {len(self)} cannot be decoded')

    def _seek_frames(self, wanted, times) -> Iterator[tuple[int, 'av.VideoFrame']]:
        """Decode from key frames on, until all frames are there or one is missing."""
        keys, closed = self.index.keys, self.index.closed
        own = keys[np.maximum(np.searchsorted(keys, times, 'right') - 1, 0)].tolist()
        gap = SKIPPED_FRAMES if closed else DECODED_FRAMES
        positions = np.searchsorted(self.index.times, own)
        begin = 0
        while begin < len(wanted):
            # the frames up to the next key frame that is worth a seek
            end = begin + 1
            while end < len(wanted) and positions[end] <= wanted[end - 1] + gap:
                end += 1
            self.container.seek(own[begin], stream=self.stream)
            needed = Counter(own[begin:end]) if closed else None
            found = begin
            for place, frame in self._run(times[:end], begin, own[begin], needed):
                yield place, frame
                found = place + 1
            if found < end:
                return
            begin = end

    def _run(
        self,
        times: list[int],
        begin: int,
        start: int | None = None,
        needed: Counter | None = None,
    ) -> Iterator[tuple[int, 'av.VideoFrame']]:
        """Decode on from where the container is, until a frame is missing.

        Args:
            times: Of the wanted frames, rising.
            begin: Place of the first one that is wanted.
            start: Time up to which the container was sought; None if it is at its beginning.
            needed: Number of wanted frames by the time of the key frame before each. What follows
                the last one after a key frame is then not decoded.
        """
        context = self.stream.codec_context
        left, wanted = len(times) - begin, set(times[begin:])
        can_skip = context.name in SKIPPABLE
        place, is_first, needed_here = begin, True, 0
        for packet in chain(packets_of(self.container, self.stream), [None]):
            if is_first and start is not None and not _is_at(packet, start):
                return
            is_first = False
            is_wanted = packet is not None and packet.pts in wanted
            if needed is not None and packet is not None:
                if packet.is_keyframe:
                    needed_here = needed[packet.pts]
                if not needed_here:
                    continue
                needed_here -= is_wanted
            if can_skip:
                context.skip_frame = 'DEFAULT' if is_wanted or packet is None else 'NONREF'
            left -= is_wanted
            # after the last frame that is wanted, the decoder gives what it holds
            for part in (packet, None) if packet is not None and not left else (packet,):
                for frame in decode(context, part):
                    if frame.pts is None or frame.pts < times[place]:
                        continue
                    if frame.pts > times[place] or (frame.is_corrupt and start is not None):
                        return
                    yield place, frame
                    place += 1
                    if place == len(times):
                        return
            if packet is not None and not left:
                return


def _is_at(packet, start: int) -> bool:
    """Whether a seek arrived at a key frame, of ``start`` or before."""
    return (
        packet is not None
        and packet.is_keyframe
        and packet.pts is not None
        and (packet.pts <= start)
    )


def progressive_graph(stream, filters: Sequence[tuple[str, str | None]] = ()):
    """A graph of filters after which frames of fields count as whole: scaling would mix fields."""
    graph = av.filter.Graph()
    nodes = [graph.add_buffer(template=stream)]
    nodes += [graph.add(*each) for each in (*filters, ('setfield', 'prog'))]
    nodes.append(graph.add('buffersink'))
    graph.link_nodes(*nodes).configure()
    return graph
