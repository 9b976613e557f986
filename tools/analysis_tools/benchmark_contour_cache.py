"""Compare ways to keep contours: their size against the videos', and the time to read them.

Segment Anything is not needed: outlines of a graph-based segmentation (Felzenszwalb and
Huttenlocher, in OpenCV's contributed modules) have similar statistics. Example::

    python tools/analysis_tools/benchmark_contour_cache.py videos/*.mp4
"""

import argparse
import io
import lzma
import os
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import decord
import numpy as np
from PIL import Image

from bimm_mm.datasets.contour_cache import (
    SUFFIX,
    ContourCache,
    decode_contour,
    encode_contour,
)
from bimm_mm.datasets.contour_writer import ContourWriter, write_manifest


def segment_outlines(frame: np.ndarray) -> np.ndarray:
    """Outlines of the segments of a frame, (H, W, 3) uint8 to (H, W) bool."""
    labels = cv2.ximgproc.segmentation.createGraphSegmentation(0.8, 300, 100).processImage(frame)
    outlines = np.zeros(labels.shape, bool)
    outlines[:, :-1] |= labels[:, 1:] != labels[:, :-1]
    outlines[:-1] |= labels[1:] != labels[:-1]
    return outlines


def zlib_rows(contour: np.ndarray) -> bytes:
    """Bits, row by row."""
    return zlib.compress(np.packbits(contour, axis=1).tobytes(), 9)


def zlib_runs(contour: np.ndarray) -> bytes:
    """Lengths of runs, one byte each, or 255 and three bytes."""
    ends = np.flatnonzero(np.diff(contour.ravel()))
    runs = np.diff(ends, prepend=-1, append=contour.size - 1)
    parts = [bytes([n]) if n < 255 else b'\xff' + int(n).to_bytes(3, 'little') for n in runs]
    return zlib.compress(b''.join(parts), 9)


def lzma_rows(contour: np.ndarray) -> bytes:
    """The cache's way, but for the order of the bits."""
    filters = [dict(id=lzma.FILTER_LZMA2, preset=9 | lzma.PRESET_EXTREME, lc=0, lp=0, pb=0)]
    packed = np.packbits(contour, axis=1).tobytes()
    return lzma.compress(packed, format=lzma.FORMAT_RAW, filters=filters)


def opencv(suffix: str, *settings: int) -> Callable[[np.ndarray], bytes]:
    """One of OpenCV's image formats."""
    return lambda contour: cv2.imencode(suffix, contour * np.uint8(255), settings)[1].tobytes()


def ccitt(contour: np.ndarray) -> bytes:
    """CCITT group 4, the code of fax machines, in a TIFF file."""
    stream = io.BytesIO()
    Image.fromarray(~contour).save(stream, 'TIFF', compression='group4')
    return stream.getvalue()


def read_opencv(data: bytes, size: tuple[int, int]) -> np.ndarray:
    """What :func:`opencv` wrote."""
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)


# how to write, and how to read where that is worth measuring
PNG = (cv2.IMWRITE_PNG_BILEVEL, 1, cv2.IMWRITE_PNG_COMPRESSION, 9)
WAYS: dict[str, tuple[Callable, Callable | None]] = {
    'zlib on rows': (
        zlib_rows,
        lambda data, size: np.unpackbits(
            np.frombuffer(zlib.decompress(data), np.uint8).reshape(size[0], -1), axis=1
        ),
    ),
    'zlib on run lengths': (zlib_runs, None),
    'PNG, 1 bit': (opencv('.png', *PNG), read_opencv),
    'WebP, lossless': (opencv('.webp', cv2.IMWRITE_WEBP_QUALITY, 101), read_opencv),
    'CCITT group 4': (ccitt, lambda data, size: np.asarray(Image.open(io.BytesIO(data)))),
    'LZMA2 on rows': (lzma_rows, None),
    'LZMA2 on columns (used)': (encode_contour, lambda data, size: decode_contour(data, *size)),
}


def milliseconds(call: Callable, repeats: int) -> float:
    """The fastest of some calls: on a busy machine the others measure the neighbours."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


def compare_ways(videos: dict[str, list[np.ndarray]]) -> None:
    """Print bytes per contour for each video, and the time to decode."""
    print('| way | ' + ' | '.join(videos) + ' | mean | ms |')
    print('|---' * (len(videos) + 3) + '|')
    for name, (write, read) in WAYS.items():
        sizes, times = [], []
        for contours in videos.values():
            coded = [(write(contour), contour.shape) for contour in contours]
            sizes.append(np.mean([len(data) for data, _ in coded]))
            if read is not None:
                times += [milliseconds(lambda c=c, read=read: read(*c), 5) for c in coded]
        cells = [f'{size:.0f}' for size in (*sizes, np.mean(sizes))]
        cells.append(f'{np.mean(times):.2f}' if times else '')
        print(f'| {name} | ' + ' | '.join(cells) + ' |')


def compare_clips(path: Path, stride: int, folder: Path, interval: int = 4) -> None:
    """Write the cache of a video; print its size, and the times to read and to decode a clip."""
    reader = decord.VideoReader(str(path), num_threads=1)
    size = reader[0].shape[:2]
    header = dict(
        kind='videos',
        num_frames=len(reader),
        height=size[0],
        width=size[1],
        stride=stride,
        made_by={},
    )
    frames = range(0, len(reader), stride)
    with ContourWriter(folder / (path.name + SUFFIX), header, len(frames)) as writer:
        for frame in frames:
            writer.add(segment_outlines(reader[frame].asnumpy()), size)
        writer.finish()
    cache = ContourCache(folder)
    start = max(0, len(reader) - 16 * interval) // 2
    clip = [min(start + interval * i, len(reader) - 1) for i in range(16)]
    read = milliseconds(lambda: cache.frames(path.name, clip, len(reader), size), 5)

    def decode() -> None:
        reader = decord.VideoReader(str(path), num_threads=1)  # as a loader does for every clip
        reader.get_batch(clip)

    share = cache.file_of(path.name).stat().st_size / os.path.getsize(path)
    print(
        f'{path.name}, every {stride}th frame: the cache has {share:.1%} of the size of the '
        f'video; clip of 16 frames: contours {read:.1f} ms, decord {milliseconds(decode, 5):.1f} ms'
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('videos', nargs='+', type=Path)
    parser.add_argument('--stride', type=int, nargs='+', default=[4, 8], help='default: 4 8')
    parser.add_argument('--samples', type=int, default=10, help='frames per video; default: 10')
    args = parser.parse_args()
    cv2.setNumThreads(1)
    videos = {}
    for path in args.videos:
        reader = decord.VideoReader(str(path), num_threads=1)
        frames = np.linspace(0, len(reader) - 1, args.samples).astype(int)
        videos[path.stem] = [segment_outlines(reader[int(i)].asnumpy()) for i in frames]
    compare_ways(videos)
    for stride in args.stride:
        with tempfile.TemporaryDirectory() as folder:
            write_manifest(Path(folder), 'videos', {})
            for path in args.videos:
                compare_clips(path, stride, Path(folder))


if __name__ == '__main__':
    main()
