"""Videos inside of a larger file, as those of a tar shard, by a path that says where."""

import os
import re
from typing import NamedTuple

_PART = re.compile(r'(.+\.tar)/(\d+)\+(\d+)/(.+)', re.DOTALL)


class Part(NamedTuple):
    """A stretch of bytes of a file that is a video.

    Written as a path, ``videos-000000.tar/1536+73400/class/a.mp4``.

    Attributes:
        file: The larger file.
        begin: Of the stretch, in bytes.
        size: Bytes.
        name: What the video was called.
    """

    file: str
    begin: int
    size: int
    name: str

    def __str__(self) -> str:
        return f'{self.file}/{self.begin}+{self.size}/{self.name}'

    @property
    def url(self) -> str:
        """As ffmpeg takes it."""
        return f'subfile,,start,{self.begin},end,{self.begin + self.size},,:file:{self.file}'


def part_of(path: str | os.PathLike) -> Part | None:
    """What a path says, if it is that of a part of a file."""
    match = _PART.fullmatch(os.fspath(path))
    return match and Part(match[1], int(match[2]), int(match[3]), match[4])


def file_of(path: str | os.PathLike) -> str:
    """The file on the disk that a path needs."""
    part = part_of(path)
    return os.fspath(path) if part is None else part.file


def is_utf8(path: str) -> bool:
    """Whether a path can be handed to a library that takes UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
