"""Rewrite one video: the program of the processes that ``resize.py`` starts."""

import json
import sys
from fractions import Fraction

import av
from av.video.reformatter import ColorRange

from .check import damage, truncation
from .decoder_process import end_with_parent
from .errors import VideoError
from .pyav import PyavReader


def convert(
    source: str, target: str, short_side: int, gop: int, crf: int, preset: str, codec: str = 'h264'
) -> None:
    """Write one video, upright, and check that as many frames come out of it as went in.

    Args:
        source, target: Files; the new one is MP4, without sound.
        short_side: Pixels; smaller videos keep their size, but sides become even.
        gop: Frames from one key frame to the next.
        crf: Quality: of x264 from 0 to 51, of mjpeg the quantizer from 2 to 31.
        preset: Speed of x264.
        codec: 'h264' or 'mjpeg'.

    Raises:
        VideoError: The video has no frames, is truncated, or frames got lost; PyAV's errors pass
            through.
    """
    reader = PyavReader(source)
    problem = truncation(reader)
    if problem:
        raise VideoError(problem)
    height, width = reader.shape
    scale = min(1.0, short_side / min(width, height))
    size = [2 * max(1, round(side * scale / 2)) for side in (width, height)]
    count = 0
    with av.open(target, 'w', format='mp4') as writer:
        output = _add_stream(writer, reader, size, gop, crf, preset, codec)
        for time, frame in reader.upright_frames():
            pixels = output.codec_context.pix_fmt
            full = ColorRange.JPEG if codec == 'mjpeg' else ColorRange.MPEG
            frame = frame.reformat(*size, pixels, interpolation='AREA', dst_color_range=full)
            frame.pict_type = 0  # as the encoder likes, not as the source has it
            frame.pts, frame.time_base = time, output.codec_context.time_base
            writer.mux(output.encode(frame))
            count += 1
        writer.mux(output.encode(None))
    reader.close()
    problem = damage(count, len(reader))
    if problem:
        raise VideoError(problem)
    written = PyavReader(target)
    there = sum(1 for _ in written.all_frames())
    written.close()
    if not count == there == len(written) or written.shape != tuple(size[::-1]):
        raise VideoError(f'{count} frames were written, but {there} can be read')


def _add_stream(writer, reader, size, gop, crf, preset, codec):
    """The stream to encode into."""
    video = reader.stream
    if codec == 'h264':
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
    else:
        options = dict(qmin=str(crf), qmax=str(crf))
    name = 'libx264' if codec == 'h264' else 'mjpeg'
    rate = video.average_rate or video.guessed_rate or Fraction(25)
    output = writer.add_stream(name, rate=rate, options=options)
    output.width, output.height = size
    output.pix_fmt = 'yuv420p' if codec == 'h264' else 'yuvj420p'
    context = output.codec_context
    context.thread_count = 1
    context.time_base = video.time_base if reader.index.times is not None else 1 / rate
    for name in ('colorspace', 'color_primaries', 'color_trc'):
        setattr(context, name, getattr(video.codec_context, name))
    context.color_range = ColorRange.MPEG if codec == 'h264' else ColorRange.JPEG
    return output


def main(arguments: list[str]) -> None:
    """Rewrite a video.

    Args:
        arguments: Source, target, settings of :func:`convert` as JSON, and the number of the
            process that started this one.
    """
    end_with_parent(int(arguments[3]))
    try:
        convert(*arguments[:2], **json.loads(arguments[2]))
    except Exception as error:
        kind = '' if isinstance(error, VideoError) else f'{type(error).__name__}: '
        sys.exit(f'{kind}{error}'.partition('\n')[0])
