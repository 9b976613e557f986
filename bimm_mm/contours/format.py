"""The files that contours are kept in. The format is our choice; docs/contours.md compares others.

A cache is a folder with ``contours.json``, which says how it was made. Each video has a file of
its own (``<path of the video>.contours``); images share files, some hundred in each
(``images-00007.contours``, chosen by a checksum of the name). A file is::

    magic, header (JSON), one record for each segmented frame or image, index, trailer

Numbers are little-endian. A record is its length and CRC-32, then the sizes of image and contour
(height and width each, 16 bits), then the contour as one bit per pixel: a byte holds 8 rows of one
column, the bytes of such a strip follow each other, and all are compressed by LZMA2 without a
container. Where masks are kept in place of their outline, there is a byte for each pixel, row by
row, and the uppermost bit of the contour's width is set. A record without content stands for an
image that could not be read.
"""

import json
import lzma
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..utils.commands import command

SUFFIX = '.contours'
MANIFEST = 'contours.json'
FORMAT = 1
MAGIC, END = b'BIMMCTR1', b'BIMMEND1'
HEAD = struct.Struct('<II')  # number of bytes of a record's content, and their CRC-32
SIZES = struct.Struct('<HHHH')  # height and width of the image, then of the contour
BYTES = 1 << 15  # added to the width of a contour that has a byte per pixel
TRAILER = struct.Struct('<QI8s')  # where the index begins, its CRC-32, END
FILTERS = [dict(id=lzma.FILTER_LZMA2, preset=9 | lzma.PRESET_EXTREME, lc=0, lp=0, pb=0)]


def tool() -> str:
    """The command that makes a cache, as it is called here."""
    return command('extract-contours', 'dataset_converters/extract_contours.py')


class ContourCacheError(ValueError):
    """A cache cannot be used; the message names the file and the command that mends it."""


def encode_record(contour: np.ndarray, size: tuple[int, int]) -> bytes:
    """Compress the content of a record.

    Args:
        contour: (h, w), bool for an outline, uint8 for masks; less than 32768 wide.
        size: Height and width of the image.
    """
    height, width = contour.shape
    if contour.dtype == bool:
        contour = np.packbits(contour, axis=0)
    else:
        width += BYTES
    data = lzma.compress(contour.tobytes(), format=lzma.FORMAT_RAW, filters=FILTERS)
    return SIZES.pack(*size, height, width) + data


def decode_record(content: bytes) -> tuple[np.ndarray, tuple[int, int]]:
    """Invert :func:`encode_record`: contour, (h, w) uint8, and height and width of the image.

    An outline has values 0 and 1.
    """
    *size, height, width = SIZES.unpack_from(content)
    data = lzma.decompress(content[SIZES.size :], format=lzma.FORMAT_RAW, filters=FILTERS)
    data = np.frombuffer(data, np.uint8)
    if width >= BYTES:
        return data.reshape(height, width - BYTES), tuple(size)
    return np.unpackbits(data.reshape(-1, width), axis=0, count=height), tuple(size)


def image_file_name(key: str, num_files: int) -> str:
    """Name the file of a cache that holds the image ``key``."""
    # a name that is not UTF-8 has surrogates: they stand for its bytes
    checksum = zlib.crc32(key.encode(errors='surrogateescape'))
    return f'images-{checksum % num_files:05d}{SUFFIX}'


def pack_header(header: dict) -> bytes:
    """Encode the beginning of a file."""
    text = json.dumps(header, sort_keys=True).encode()
    return MAGIC + struct.pack('<I', len(text)) + text


class ContourFile:
    """One file of a cache, open for reading; a context manager.

    Args:
        path: The file.

    Attributes:
        header: ``kind``, 'videos' or 'images'; for a video ``num_frames``, ``height``,
            ``width`` and ``stride``; for images ``names``, in the order of the records; and
            ``made_by``, the same as in ``contours.json``.

    Raises:
        FileNotFoundError: There is no such file.
        ContourCacheError: The file is damaged or not finished.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = open(path, 'rb')
        try:
            self.header = read_header(self.file)
            self.offsets = self._read_index()
        except (ValueError, struct.error, OSError) as error:
            self.file.close()
            raise self._damaged() from error

    def __enter__(self) -> 'ContourFile':
        return self

    def __exit__(self, *args) -> None:
        self.file.close()

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def _read_index(self) -> np.ndarray:
        length = self.file.seek(0, 2)
        self.file.seek(length - TRAILER.size)
        start, checksum, end = TRAILER.unpack(self.file.read(TRAILER.size))
        self.file.seek(start)
        index = self.file.read(length - TRAILER.size - start)
        if end != END or zlib.crc32(index) != checksum:
            raise ValueError('no valid index')
        return np.frombuffer(index, '<u8')

    def is_empty(self, record: int) -> bool:
        """Tell whether a record stands for an image that could not be read."""
        return int(self.offsets[record + 1] - self.offsets[record]) == HEAD.size

    def read(self, record: int) -> tuple[np.ndarray, tuple[int, int]]:
        """Read one record: contour, (h, w) uint8, and (height, width) of its image.

        The contour has values 0 and 1, or numbers of masks, see ``what`` in ``made_by``.

        Raises:
            ContourCacheError: The record is damaged.
        """
        self.file.seek(int(self.offsets[record]))
        try:
            return decode_record(read_record(self.file))
        except (TypeError, ValueError, struct.error, lzma.LZMAError) as error:
            raise self._damaged(f'record {record} of ') from error

    def _damaged(self, what: str = '') -> ContourCacheError:
        return ContourCacheError(
            f'{what}{self.path} is damaged or not finished: delete that file and run {tool()} '
            'again with the same settings, it makes what is missing'
        )


def read_header(file: BinaryIO) -> dict:
    """Read the header of an open file, and stop at the first record.

    Raises:
        ValueError: There is no header.
    """
    file.seek(0)
    if file.read(len(MAGIC)) != MAGIC:
        raise ValueError('not a file of contours')
    (length,) = struct.unpack('<I', file.read(4))
    return json.loads(file.read(length))


def read_record(file: BinaryIO) -> bytes | None:
    """Read the content of the record that begins here; None if it is torn or damaged."""
    head = file.read(HEAD.size)
    if len(head) < HEAD.size:
        return None
    length, checksum = HEAD.unpack(head)
    content = file.read(length)
    return content if len(content) == length and zlib.crc32(content) == checksum else None
