"""Read lists of videos: one reader for every data set and tool."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from mmengine.fileio import get

from .media import IMAGES, VIDEOS

_ENDINGS = '|'.join(re.escape(ending[1:]) for ending in (*VIDEOS, *IMAGES)).encode()
_BETWEEN = rb'[ \t,;]'
# A line is a path up to the last ending of a video or image that a delimiter follows, and fields.
# Without such an ending, as of folders of frames, numbers at the end of the line are the fields.
_LINE = re.compile(
    rb'[^\S\r\n]*(?:'
    rb'([^\r\n]*\.(?:' + _ENDINGS + rb'))(?=' + _BETWEEN + rb'|[\r\n]|\Z)([^\r\n]*)'
    rb'|([^\s,;][^\r\n]*?)((?:' + _BETWEEN + rb'+[-+.\w]*\d[-+.\w]*)*[ \t]*)(?=[\r\n]|\Z)'
    rb')',
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Entry:
    """A line of a list.

    Attributes:
        path: The file, as the list has it.
        fields: What follows it, as labels.
        line: The whole line.
        where: File and number of the line, for messages.
    """

    path: str
    fields: tuple[str, ...]
    line: str
    where: str

    def label(self) -> int:
        """The class: the last field, which the number of frames may precede.

        Returns:
            -1 if there is no field.

        Raises:
            ValueError: It is not a number, or more than two fields follow the path.
        """
        if not self.fields:
            return -1
        if len(self.fields) > 2:
            raise ValueError(
                f'{self.where}: a path, the number of frames (or not) and a label are expected, '
                f'but the line is {self.line!r}'
            )
        return self._number(self.fields[-1], int)

    def labels(self) -> list[int]:
        """All fields as classes; raises as :meth:`label`."""
        return [self._number(field, int) for field in self.fields]

    def numbers(self) -> list[float]:
        """All fields as numbers, at least one; raises as :meth:`label`."""
        if not self.fields:
            raise ValueError(f'{self.where}: no number follows the path in {self.line!r}')
        return [self._number(field, float) for field in self.fields]

    def _number(self, field: str, kind: type) -> int | float:
        try:
            return kind(field)
        except ValueError:
            raise ValueError(
                f'{self.where}: {field!r} is not a{"n integer" * (kind is int)}'
                f'{" number" * (kind is float)} in {self.line!r}; if it belongs to the path, give '
                'the delimiter'
            ) from None

    def below(self, folder: str | os.PathLike) -> str:
        """The path relative to a folder, with slashes.

        Raises:
            ValueError: The file does not lie in the folder.
        """
        path = os.path.normpath(os.path.join(folder, self.path))
        name = os.path.relpath(path, folder).replace(os.sep, '/')
        if PurePosixPath(name).parts[0] == '..':
            raise ValueError(
                f'{self.where}: {self.path!r} does not lie in the folder {os.fspath(folder)!r}'
            )
        return name


class EntryList(Sequence):
    """The lines of a list, kept as it was read: some ten bytes per line besides the text.

    Args:
        data: The text.
        spans: (N, 4) begin and end of the path and end of the line in ``data``, and its number.
        name: Of the file, for messages.
        delimiter: What stands between the fields; None for blanks, tabs, commas or semicolons.
    """

    def __init__(
        self, data: bytes, spans: np.ndarray, name: str, delimiter: str | None = None
    ) -> None:
        self.data, self.spans, self.name, self.delimiter = data, spans, name, delimiter

    def __len__(self) -> int:
        return len(self.spans)

    def __getitem__(self, index: int) -> Entry:
        if not isinstance(index, int | np.integer):
            raise TypeError(f'index {index!r} must be an integer')
        begin, end, stop, number = self.spans[index].tolist()
        rest = _text(self.data[end:stop])
        fields = rest.split(self.delimiter) if self.delimiter else re.split('[ \t,;]+', rest)
        return Entry(
            path=_text(self.data[begin:end]),
            fields=tuple(field.strip() for field in fields if field.strip()),
            line=_text(self.data[begin:stop]).rstrip(),
            where=f'{self.name}, line {number}',
        )

    def path(self, index: int) -> str:
        """The path alone."""
        begin, end = self.spans[index, :2].tolist()
        return _text(self.data[begin:end])

    def paths(self) -> Iterator[str]:
        """All paths."""
        return (self.path(index) for index in range(len(self)))

    def take(self, indices: Sequence[int]) -> 'EntryList':
        """Some of the lines."""
        return EntryList(self.data, self.spans[indices], self.name, self.delimiter)


def read_list(ann_file: str | os.PathLike, delimiter: str | None = None) -> EntryList:
    """Read a list of videos, images or folders of frames, one per line.

    A path may contain blanks. After it may follow fields, as a label, or a number of frames and a
    label, behind blanks, tabs, commas or semicolons, one or several. A byte order mark and empty
    lines are skipped. Bytes that are not UTF-8 are kept as Python keeps them in file names.

    Args:
        ann_file: On the local disk, or of a backend that mmengine reads.
        delimiter: What ends the path, where the rules above would find another end. A single blank
            is the same as None: other tools take it for the default.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds no line.
    """
    name = os.fspath(ann_file)
    data = get(name)
    delimiter = None if delimiter is None or not delimiter.strip(' ') else delimiter
    spans = np.fromiter(_find_spans(data, delimiter), np.dtype((np.int64, 4)))
    if not len(spans):
        raise ValueError(f'{name} is empty: a path per line is expected')
    return EntryList(data, spans, name, delimiter)


def list_of(names: Sequence[str], where: str) -> EntryList:
    """A list of paths that come from elsewhere.

    Args:
        names: The paths.
        where: Where they come from, for messages.
    """
    data = b'\n'.join(os.fsencode(name) for name in names)
    sizes = np.array([len(os.fsencode(name)) for name in names], np.int64)
    begins = np.concatenate([[0], np.cumsum(sizes + 1)[:-1]]).astype(np.int64)
    ends = begins + sizes
    return EntryList(data, np.stack([begins, ends, ends, np.arange(len(names)) + 1], 1), where)


def _find_spans(data: bytes, delimiter: str | None) -> Iterator[tuple[int, int, int, int]]:
    place = 3 if data.startswith(b'\xef\xbb\xbf') else 0
    number, mark = 0, delimiter.encode() if delimiter else b''
    while place < len(data):
        number += 1
        stop = data.find(b'\n', place)
        stop = len(data) if stop < 0 else stop
        if mark:
            begin, end = place, data.find(mark, place, stop)
            end = stop if end < 0 else end
            text = data[begin:end]
            begin += len(text) - len(text.lstrip())
            end -= len(text) - len(text.rstrip())
            if begin < end:
                yield begin, end, stop, number
        else:
            match = _LINE.match(data, place, stop)
            if match is not None:
                begin, end = match.span(1 if match[1] is not None else 3)
                yield begin, end, stop, number
        place = stop + 1


def _text(data: bytes) -> str:
    return data.decode('utf-8', 'surrogateescape')
