"""Missing and broken videos and images are found before a training stumbles over them."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from ..utils.files import printable
from ..utils.lists import EntryList, list_of
from ..utils.media import IMAGES, list_media
from ..video import VideoError
from ..video.isolated import check_video
from ..video.parts import file_of

TIMEOUT = 600.0  # seconds


def problem_of(
    path: str | os.PathLike,
    quick: bool = False,
    backend: str | None = None,
    timeout: float = TIMEOUT,
) -> str | None:
    """What is wrong with a video or image, or None.

    Videos are decoded by the reader that trains, in a process of its own.

    Args:
        path: The file; what ends in one of ``IMAGES`` is an image, all else a video.
        quick: Of a video, decode only the first frame; else all frames. A file that lost its end
            is found only by the latter.
        backend: Decoder of the videos, see :func:`bimm_mm.video.open_video`.
        timeout: Seconds that a video may take.

    Returns:
        'missing', 'no permission', 'empty file', why it cannot be opened or decoded, or
        'truncated: N of M frames' or 'damaged: N of M frames can be decoded' for less than nine
        tenths of them (our choice, since headers of some containers are estimates).
    """
    path = Path(path)
    try:
        with open(file_of(path), 'rb') as file:
            if not file.read(1):
                return 'empty file'
            if path.suffix.lower() in IMAGES:
                file.seek(0)
                return _problem_of_image(file.read())
    except PermissionError:
        return 'no permission'
    except IsADirectoryError:
        return 'a folder'
    except OSError:
        return 'missing'
    try:
        return check_video(path, backend, quick, timeout)
    except (VideoError, OSError) as error:
        return str(error)


def _problem_of_image(data: bytes) -> str | None:
    # from memory: OpenCV crashes on names that are not UTF-8
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return None if image is not None else 'cannot be decoded'


def verify(
    paths: Sequence[str | os.PathLike],
    workers: int = 8,
    quick: bool = False,
    progress: Callable[[], None] | None = None,
    backend: str | None = None,
    timeout: float = TIMEOUT,
) -> Iterator[str | None]:
    """Problems of many files, in the order of ``paths``.

    Args:
        paths: Files.
        workers: Threads, at least 1, each with a process that decodes.
        quick, backend, timeout: See :func:`problem_of`.
        progress: Called after each file.
    """
    if workers < 1:
        raise ValueError(f'workers={workers} must be at least 1')
    with ThreadPoolExecutor(workers) as pool:
        for problem in pool.map(lambda path: problem_of(path, quick, backend, timeout), paths):
            if progress is not None:
                progress()
            yield problem


def list_files(folder: str | os.PathLike) -> EntryList:
    """Videos and images below a folder, as a list without labels.

    Raises:
        FileNotFoundError: There is no such folder, or no such file in it.
    """
    return list_of(list_media(folder), os.fspath(folder))


def report_of(names: Sequence[str], problems: Sequence[str | None]) -> str:
    """The result as JSON: numbers checked and good, and the problem of each bad file."""
    bad = {
        printable(name): why for name, why in zip(names, problems, strict=True) if why is not None
    }
    result = dict(checked=len(names), good=len(names) - len(bad), problems=bad)
    return json.dumps(result, indent=2, ensure_ascii=False) + '\n'
