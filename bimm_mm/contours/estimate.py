"""What the contours of a data set will cost, from a few of its frames."""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..video.reader import VideoError, open_video
from .change import Chain
from .extraction import read_image
from .format import HEAD, encode_record
from .progress import duration

VIDEOS_TO_COUNT = 50  # whose frames are counted; the others are taken to be as long
FRAMES_TO_COMPARE = 64
THRESHOLDS = (2.0, 4.0, 8.0)  # at which frames would be reused, see change.py


@dataclass
class Sample:
    """Some pictures of a data set.

    Attributes:
        pictures: (H, W, 3) uint8, RGB.
        total: Pictures or frames that are to be segmented in all, about.
        reused: For each of :data:`THRESHOLDS`, the share of frames that would be reused.
    """

    pictures: list[np.ndarray]
    total: float
    reused: list[float]


def spread(items: Sequence, count: int) -> list:
    """Take up to ``count`` items, evenly."""
    return [items[i] for i in np.unique(np.linspace(0, len(items) - 1, count).astype(int))]


def sample_images(folder: Path, names: list[str], count: int) -> Sample:
    """Read some images; those that cannot be read are left out."""
    pictures = []
    for name in spread(names, count):
        try:
            pictures.append(read_image(folder / name))
        except (OSError, ValueError):
            continue
    return Sample(pictures, len(names), [])


def sample_videos(folder: Path, names: list[str], count: int, stride: int) -> Sample:
    """Read a frame each of some videos, and count and compare the frames of some more."""
    pictures, lengths, shares = [], [], []
    chosen = spread(names, max(count, VIDEOS_TO_COUNT))
    with_picture = set(spread(chosen, count))
    for name in chosen:
        try:
            with closing(open_video(folder / name)) as reader:
                frames = range(0, len(reader), stride)
                lengths.append(len(frames))
                if name in with_picture:
                    pictures += list(reader.get_batch([frames[len(frames) // 2]]))
                    some = reader.get_batch(frames[:FRAMES_TO_COMPARE])
                    shares.append([share_reused(some, limit) for limit in THRESHOLDS])
        except (OSError, VideoError):
            continue
    reused = np.mean(shares, axis=0).tolist() if shares else []
    return Sample(pictures, float(np.mean(lengths or [0])) * len(names), reused)


def share_reused(frames: Sequence[np.ndarray], threshold: float) -> float:
    """Compute the share of frames that take the contour of one before."""
    chain = Chain(threshold)
    return float(np.mean([chain.source(i, frame) != i for i, frame in enumerate(frames)]))


def seconds_each(segment: Callable, pictures: Sequence[np.ndarray], batch: int) -> float:
    """Measure the seconds that a picture takes."""
    start = time.perf_counter()
    for i in range(0, len(pictures), batch):
        segment(pictures[i : i + batch])
    return (time.perf_counter() - start) / len(pictures)


def estimate(
    sample: Sample,
    segment: Callable,
    variants: dict[str, Callable],
    batch: int,
    stride: int | None = None,
) -> str:
    """Write what a data set will cost, and what some settings would save.

    Args:
        sample: Of the data set.
        segment: The generator as set; it gives contours of a list of pictures.
        variants: Others, by the settings that make them, to be compared on three pictures.
        batch: Pictures at a time.
        stride: Of videos.

    Raises:
        ValueError: None of the pictures could be read.
    """
    if not sample.pictures:
        raise ValueError('none of the files that were tried can be read; verify_dataset finds why')
    contours = segment(sample.pictures[:batch])  # and compiles, finds batches, fills caches
    seconds = seconds_each(segment, sample.pictures, batch)
    size = np.mean([len(encode_record(c, c.shape)) + HEAD.size for c in contours])
    few = sample.pictures[:3]
    base = seconds_each(segment, few, batch) if variants else 0.0
    rows = [(name, seconds_each(call, few, batch) / base) for name, call in variants.items()]
    if stride is not None:
        rows.append((f'--stride {2 * stride}', 0.5))
    rows += [
        (f'--reuse-below {limit:g}', 1 - share)
        for limit, share in zip(THRESHOLDS, sample.reused, strict=False)
    ]
    whole = sample.total * seconds
    lines = [
        f'{seconds:.2f} s for a contour, of {len(sample.pictures)} that were made; '
        f'{sample.total:,.0f} to make',
        '',
        '| devices | 1 | 8 | 64 |',
        '|---|---:|---:|---:|',
        '| time | ' + ' | '.join(duration(whole / n) for n in (1, 8, 64)) + ' |',
        '',
        f'disk: {sample.total * size / 1e9:.2f} GB, at {size:,.0f} bytes a contour',
        '',
        '| setting | time on one device | of the time |',
        '|---|---:|---:|',
        *(f'| {name} | {duration(whole * share)} | {share:.0%} |' for name, share in rows),
    ]
    return '\n'.join(lines)
