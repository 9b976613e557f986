"""Missing and broken videos and images are found before a training stumbles over them."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2

from ..utils.media import IMAGES, list_media


def problem_of(path: str | os.PathLike, quick: bool = False) -> str | None:
    """What is wrong with a video or image, or None.

    Args:
        path: the file; what ends in one of ``IMAGES`` is an image, all else a video.
        quick: of a video, decode only the first frame; else all frames. A file that lost its end
            is found only by the latter.

    Returns:
        str, optional: 'missing', 'no permission', 'empty file', 'cannot be decoded', or
        'truncated: N of M frames' for less than nine tenths of what the header says (our choice,
        since headers of some containers are estimates).
    """
    path = Path(path)
    try:
        with open(path, 'rb') as file:
            if not file.read(1):
                return 'empty file'
    except PermissionError:
        return 'no permission'
    except OSError:
        return 'missing'
    if path.suffix.lower() in IMAGES:
        return None if cv2.imread(str(path)) is not None else 'cannot be decoded'
    video = cv2.VideoCapture(str(path))
    try:
        if not video.isOpened() or not video.grab():
            return 'cannot be decoded'
        declared, count = int(video.get(cv2.CAP_PROP_FRAME_COUNT)), 1
        if quick:
            return None
        while video.grab():
            count += 1
    finally:
        video.release()
    return f'truncated: {count} of {declared} frames' if count < 0.9 * declared else None


def verify(
    paths: Sequence[str | os.PathLike],
    workers: int = 8,
    quick: bool = False,
    progress: Callable[[], None] | None = None,
) -> Iterator[str | None]:
    """Problems of many files, checked by ``workers`` threads, in the order of ``paths``.

    Args:
        paths: files.
        workers: threads, at least 1; OpenCV decodes outside of Python's lock.
        quick: see :func:`problem_of`.
        progress: called after each file.
    """
    if workers < 1:
        raise ValueError(f'workers={workers} must be at least 1')
    with ThreadPoolExecutor(workers) as pool:
        for problem in pool.map(lambda path: problem_of(path, quick), paths):
            if progress is not None:
                progress()
            yield problem


def read_annotations(
    ann_file: str | os.PathLike, delimiter: str | None = None
) -> list[tuple[str, str]]:
    """Lines of a list of videos, and the path at the beginning of each.

    Args:
        ann_file: one ``path label`` (or ``path``) per line; empty lines are left out.
        delimiter: what stands between path and label; None for any white space.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no line.
    """
    lines = [line for line in Path(ann_file).read_text().splitlines() if line.strip()]
    if not lines:
        raise ValueError(f'{ann_file} is empty')
    return [(line, line.strip().split(delimiter)[0]) for line in lines]


def list_files(folder: str | os.PathLike) -> list[tuple[str, str]]:
    """Videos and images below a folder, as lines of a list without labels.

    Raises:
        FileNotFoundError: there is no such folder, or no such file in it.
    """
    return [(name, name) for name in list_media(folder)]


def report_of(names: Sequence[str], problems: Sequence[str | None]) -> str:
    """The result as JSON: numbers checked and good, and the problem of each bad file."""
    bad = {name: why for name, why in zip(names, problems, strict=True) if why is not None}
    result = dict(checked=len(names), good=len(names) - len(bad), problems=bad)
    return json.dumps(result, indent=2, ensure_ascii=False) + '\n'
