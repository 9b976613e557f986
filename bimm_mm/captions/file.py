"""The file of captions beside the videos of a data set.

JSON lines, an object with the path of a video, relative to the folder of the videos, and its
captions::

    {"path": "abseiling/a.mp4", "captions": ["a man on a rope", "a rock face"]}
"""

import hashlib
import json
from array import array
from collections.abc import Iterator, Sequence
from glob import glob
from pathlib import Path

import numpy as np

from ..utils.commands import command


class CaptionError(ValueError):
    """A file of captions cannot be used; the message names the file and the line."""


class CaptionFile:
    """Captions by the path of their video.

    Files are kept as they were read, with 16 bytes for each line: worker processes share them.

    Args:
        path: The file, or a pattern as ``captions.*_of_8.jsonl`` for several.

    Raises:
        FileNotFoundError: There is no such file.
        CaptionError: A line is none, or a path stands in two lines.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        names = [self.path] if Path(self.path).is_file() else sorted(glob(self.path))
        if not names:
            raise FileNotFoundError(
                f'no file of captions {self.path}; '
                f'{command("make-captions", "dataset_converters/make_captions.py")} makes one'
            )
        self.data = b'\n'.join(Path(name).read_bytes() for name in names)
        keys, begins = array('Q'), array('q')  # no objects: there may be ten million lines
        for begin, number, line in _lines(self.data):
            entry = parse_line(line, f'{self.path}, line {number}')
            keys.append(_hash(entry['path']))
            begins.append(begin)
        if not keys:
            raise CaptionError(f'{self.path} holds no caption')
        order = np.argsort(np.frombuffer(keys, np.uint64), kind='stable')
        self.keys = np.frombuffer(keys, np.uint64)[order]
        self.begins = np.frombuffer(begins, np.int64)[order]
        twice = np.flatnonzero(self.keys[1:] == self.keys[:-1])
        if len(twice):
            path = json.loads(self._line(twice[0]))['path']
            raise CaptionError(f'{self.path} has {path!r} in two lines; give all captions in one')

    def __len__(self) -> int:
        return len(self.keys)

    def get(self, path: str) -> list[str]:
        """The captions of a video; none if the file does not have it."""
        key = np.uint64(_hash(path))
        place = int(np.searchsorted(self.keys, key))
        if place == len(self.keys) or self.keys[place] != key:
            return []
        entry = json.loads(self._line(place))
        return entry['captions'] if entry['path'] == path else []

    def has(self, paths: Sequence[str]) -> np.ndarray:
        """Whether each of many videos has captions, as far as 8 bytes of a checksum tell."""
        return np.isin(np.fromiter(map(_hash, paths), np.uint64, len(paths)), self.keys)

    def _line(self, place: int) -> bytes:
        begin = int(self.begins[place])
        end = self.data.find(b'\n', begin)
        return self.data[begin : len(self.data) if end < 0 else end]


def parse_line(line: bytes, where: str) -> dict:
    """Read a line: ``path`` and ``captions``, a list of one or several that are not empty.

    Raises:
        CaptionError: It is something else.
    """
    wanted = '{"path": "video.mp4", "captions": ["a caption", ...]} is expected'
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise CaptionError(f'{where}: not JSON ({error}); {wanted}') from error
    if not isinstance(entry, dict) or not isinstance(entry.get('path'), str):
        raise CaptionError(f'{where}: no path; {wanted}')
    captions = entry.get('captions')
    if not isinstance(captions, list) or not all(isinstance(c, str) and c for c in captions):
        raise CaptionError(f'{where}: captions={captions!r} is not a list of texts; {wanted}')
    if not captions:
        raise CaptionError(f'{where}: the list of captions is empty; leave the video out')
    return entry


def format_line(path: str, captions: Sequence[str]) -> str:
    """Write a line, with its end."""
    entry = dict(path=path, captions=list(captions))
    return json.dumps(entry, ensure_ascii=False) + '\n'


def _lines(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Where each line that is not empty begins, its number and itself."""
    begin, number = 0, 0
    while begin < len(data):
        end = data.find(b'\n', begin)
        end = len(data) if end < 0 else end
        number += 1
        if line := data[begin:end].strip():
            yield begin, number, line
        begin = end + 1


def _hash(path: str) -> int:
    digest = hashlib.blake2b(path.encode('utf-8', 'surrogateescape'), digest_size=8).digest()
    return int.from_bytes(digest, 'little')
