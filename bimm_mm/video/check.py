"""Find out whether a video can be decoded from its first to its last frame."""

import os

import numpy as np

from .pyav import PyavReader
from .reader import UnsupportedVideo, open_video

# Of the frames or seconds that are promised, the share that makes a video whole: headers of some
# containers are estimates, and single frames that are damaged cost single clips.
ENOUGH = 0.9
CHUNK = 32  # frames


def problem_in(
    source: str | os.PathLike | bytes, backend: str | None = None, quick: bool = False
) -> str | None:
    """Decode a video, as training would.

    Args:
        source: As of :func:`bimm_mm.video.open_video`.
        backend: The one that trains. What it refuses is read by the default one, as in training.
        quick: Decode only the first frame.

    Returns:
        What is wrong with it, or None.

    Raises:
        OSError, VideoError, ImportError: As :func:`bimm_mm.video.open_video`.
    """
    try:
        reader = open_video(source, backend)
    except UnsupportedVideo:
        reader = open_video(source)
    try:
        reader.get_batch([0])
        if quick:
            return None
        if not isinstance(reader, PyavReader):
            for begin in range(0, len(reader), CHUNK):
                reader.get_batch(range(begin, min(begin + CHUNK, len(reader))))
    finally:
        reader.close()
    return _problem_of_whole(source)


def _problem_of_whole(source: str | os.PathLike | bytes) -> str | None:
    reader = PyavReader(source)
    try:
        found = [frame.pts for frame in reader.all_frames()]
        times, count = reader.index.times, len(reader)
        there = len(found) if times is None else int(np.isin(times, found).sum())
        return damage(there, count) or truncation(reader)
    finally:
        reader.close()


def damage(there: int, count: int) -> str | None:
    """What is wrong where only ``there`` of ``count`` frames can be decoded, or None."""
    if there < ENOUGH * count:
        return f'damaged: {there} of {count} frames can be decoded'
    return None


def truncation(reader: PyavReader) -> str | None:
    """What is wrong where a file ends before its header says, or None.

    Frames that an encoder dropped are not missing: the file must end too early as well.
    """
    with reader.opened_again() as (container, stream):
        end, promised = _seconds(container)
        frames = max(stream.frames, round(promised * reader.fps))
    packets = reader.index.packets
    if end is not None and end < ENOUGH * promised and packets < ENOUGH * frames:
        return f'truncated: {packets} of {frames} frames'
    return None


def _seconds(container) -> tuple[float | None, float]:
    """Where the last packet of all streams ends, and where the header says that it does.

    None if packets have no times. Sound can be longer than the film, so all streams count.
    """
    from av.error import FFmpegError

    ends = []
    promised = [container.duration / 1e6 if container.duration else 0.0]
    for stream in container.streams:
        if stream.duration and stream.time_base:
            promised.append(float(stream.duration * stream.time_base))
        if stream.type == 'video' and stream.frames and stream.average_rate:
            promised.append(float(stream.frames / stream.average_rate))
    try:
        for packet in container.demux():
            if packet.size and packet.pts is not None:
                ends.append(float((packet.pts + (packet.duration or 0)) * packet.time_base))
    except FFmpegError:
        pass  # here it breaks off
    return max(ends, default=None), max(promised)
