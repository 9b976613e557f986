"""Rewrite one video: the program of the processes that ``resize_videos.py`` starts, by its path.

It imports no more than PyAV, so that it starts at once.
"""

import ctypes
import json
import os
import signal
import sys
from fractions import Fraction

import av
from av.video.reformatter import ColorRange

PR_SET_PDEATHSIG = 1


def convert(source: str, target: str, short_side: int, gop: int, crf: int, preset: str) -> None:
    """Write one video, and check that as many frames come out of it as went in.

    Args:
        source, target: files; the new one is MP4 with H.264, without sound.
        short_side: pixels; smaller videos keep their size.
        gop: frames from one key frame to the next.
        crf, preset: quality and speed, of x264.

    Raises:
        ValueError: the video has no frames, is truncated, or frames got lost; PyAV's errors pass
            through.
    """
    with av.open(source) as reader, av.open(target, 'w', format='mp4') as writer:
        if not reader.streams.video:
            raise ValueError('no video stream')
        video = reader.streams.video[0]
        video.codec_context.thread_count = 1
        output, count, last = None, 0, None
        for frame in reader.decode(video):
            if output is None:
                scale = min(1.0, short_side / min(frame.width, frame.height))
                size = [2 * max(1, round(side * scale / 2)) for side in (frame.width, frame.height)]
                options = dict(
                    preset=preset,
                    # cheaper to decode, and every key frame where it is expected
                    tune='fastdecode',
                    crf=str(crf),
                    g=str(gop),
                    keyint_min=str(gop),
                    sc_threshold='0',
                    bf='0',
                )
                output = writer.add_stream(
                    'libx264', rate=video.average_rate or Fraction(25), options=options
                )
                output.width, output.height = size
                output.pix_fmt = 'yuv420p'
                output.codec_context.thread_count = 1
                output.codec_context.time_base = video.time_base
                for name in ('colorspace', 'color_primaries', 'color_trc'):
                    setattr(output.codec_context, name, getattr(video.codec_context, name))
                output.codec_context.color_range = ColorRange.MPEG
            frame = frame.reformat(
                *size, 'yuv420p', interpolation='AREA', dst_color_range=ColorRange.MPEG
            )
            frame.pict_type = 0  # as the encoder likes, not as the source has it
            if frame.pts is None or (last is not None and frame.pts <= last):
                raise ValueError(f'frame {count} has no time, or that of another one')
            last = frame.pts
            writer.mux(output.encode(frame))
            count += 1
        if output is None:
            raise ValueError('no frame')
        writer.mux(output.encode(None))
        if count < 0.9 * video.frames:  # as verify.py has it
            raise ValueError(f'truncated: {count} of {video.frames} frames')
    with av.open(target) as reader:
        stream = reader.streams.video[0]
        stream.codec_context.thread_count = 1
        written = sum(1 for _ in reader.decode(stream))
    if written != count:
        raise ValueError(f'{count} frames were written, but {written} can be read')


if __name__ == '__main__':
    # ends with the process that has started it, also if that was killed
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(sys.argv[4]):
        sys.exit('the process that started this one is gone')
    try:
        convert(*sys.argv[1:3], **json.loads(sys.argv[3]))
    except Exception as error:
        sys.exit(f'{type(error).__name__}: {error}'.partition('\n')[0])
