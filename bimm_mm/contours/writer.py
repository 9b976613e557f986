"""Write contours so that a run can be stopped at any point and continued."""

import fcntl
import json
import os
import struct
import zlib
from pathlib import Path

import numpy as np

from ..utils.files import explain, write_text
from .format import (
    END,
    FORMAT,
    HEAD,
    MANIFEST,
    TRAILER,
    ContourCacheError,
    encode_record,
    pack_header,
    read_record,
    tool,
)

# What caches were made by that do not say it.
BEFORE = dict(generator='original', what='outline', dtype='float32')


def write_manifest(root: Path, kind: str, made_by: dict, **more) -> None:
    """Write ``contours.json``, or check that the existing one says the same.

    Args:
        root: Folder of the cache, created where needed.
        kind: 'videos' or 'images'.
        made_by: Settings that the contours depend on.
        **more: ``num_files`` and ``num_images`` of a cache of images.

    Raises:
        ContourCacheError: The folder holds contours that were made with other settings.
    """
    manifest = dict(format=FORMAT, kind=kind, made_by=made_by, **more)
    path = root / MANIFEST
    root.mkdir(parents=True, exist_ok=True)
    if path.is_file():
        known = json.loads(path.read_text())
        old, new = (
            _flat(node | dict(made_by=BEFORE | node['made_by'])) for node in (known, manifest)
        )
        if old != new:
            changes = [
                f'{key} was {old.get(key)!r}, now {new.get(key)!r}'
                for key in sorted(old.keys() | new.keys())
                if old.get(key) != new.get(key)
            ]
            raise ContourCacheError(
                f'{path} belongs to a cache that was made differently: {"; ".join(changes)}. Use '
                'the same settings and data to continue it, or another folder'
            )
        return
    # several processes may do this at once: each writes all of it, and the last one stays
    write_text(path, json.dumps(manifest, sort_keys=True, indent=1) + '\n')


def _flat(node: dict, prefix: str = '') -> dict:
    result = {}
    for key, value in node.items():
        inner = isinstance(value, dict)
        result |= _flat(value, f'{prefix}{key}.') if inner else {prefix + key: value}
    return result


class ContourWriter:
    """Write one file of a cache; a context manager.

    Records go to ``<path>.part`` one by one. Records of an earlier run that was stopped are kept if
    the header is the same; a torn one at the end is cut off. When the last record and the index
    are written, the file gets its name.

    Args:
        path: The file to write.
        header: See :class:`ContourFile`; the same for the same contours.
        count: Number of records that the file will have.

    Attributes:
        done: Number of records that are written.
        empty: Those of them that stand for an image which could not be read.

    Raises:
        ContourCacheError: Another process writes this file.
    """

    def __init__(self, path: Path, header: dict, count: int) -> None:
        self.path, self.count = path, count
        self.part = path.with_name(path.name + '.part')
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = open(self.part, 'a+b')
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.file.close()
            raise ContourCacheError(
                f'{self.part} is being written by another process: give each its own --shard, or '
                'wait for the other'
            ) from error
        self.done, self.empty = 0, []
        self.offsets = [self._begin(pack_header(header))]
        while self.done < count and (content := read_record(self.file)) is not None:
            self._count(content)
        self.file.truncate(self.offsets[-1])

    def _begin(self, header: bytes) -> int:
        self.file.seek(0)
        if self.file.read(len(header)) != header:
            self.file.truncate(0)
            self.file.write(header)
            self.file.flush()
        return len(header)

    def _count(self, content: bytes) -> None:
        if not content:
            self.empty.append(self.done)
        self.done += 1
        self.offsets.append(self.offsets[-1] + HEAD.size + len(content))

    def add(self, contour: np.ndarray | None, size: tuple[int, int] = (0, 0)) -> None:
        """Append a record.

        Args:
            contour: (h, w), bool for an outline, uint8 for masks; None for an image that cannot be
                read.
            size: Height and width of the image.
        """
        content = b''
        if contour is not None:
            content = encode_record(contour, size)
        self._append(content)

    def _append(self, content: bytes) -> None:
        self.file.write(HEAD.pack(len(content), zlib.crc32(content)) + content)
        self.file.flush()
        self._count(content)

    def repeat(self, record: int) -> None:
        """Append a record that was written before once more."""
        self.file.seek(self.offsets[record])
        self._append(read_record(self.file))

    def finish(self) -> None:
        """Append the index and give the file its name."""
        assert self.done == self.count, f'{self.done} of {self.count} records of {self.path}'
        index = struct.pack(f'<{len(self.offsets)}Q', *self.offsets)
        self.file.write(index + TRAILER.pack(self.offsets[-1], zlib.crc32(index), END))
        self.file.flush()
        os.fsync(self.file.fileno())
        os.replace(self.part, self.path)

    def discard(self) -> None:
        """Remove what was written, for instance of a video that turns out to be broken."""
        self.part.unlink()

    def __enter__(self) -> 'ContourWriter':
        return self

    def __exit__(self, *args) -> None:
        self.file.close()


def no_space(path: Path, error: OSError) -> str:
    """Return the message for a disk that is full, or a folder that cannot be written."""
    return f'{explain(error, path)}; run {tool()} again with the same settings, it continues'
