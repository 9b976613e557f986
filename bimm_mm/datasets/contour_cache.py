"""Contours of a data set, made once and read during training. The format is our choice.

A cache is a folder with ``contours.json``, which says how it was made, one file for each video
(``<path of the video>.contours``), or for images some hundred to a file
(``images-00007.contours``, chosen by a checksum of the name). A file is::

    magic, header (JSON), one record for each segmented frame or image, index, trailer

Numbers are little-endian. A record is its length and CRC-32, then the sizes of image and contour
(height and width each, 16 bits), then the contour as one bit per pixel: a byte holds 8 rows of one
column, and the bytes of a row of these follow each other, compressed by LZMA2 without a container.
A record without content stands for an image that could not be read.

Measured with ``tools/analysis_tools/benchmark_contour_cache.py`` on three web videos (240 to 256
pixels high, 280 to 300 frames), one thread, outlines of a graph-based segmentation (42 to 124
segments a frame) in place of SAM's. Bytes per contour, average of the three videos, and
milliseconds to decode one:

=========================== ============== =========== ====== ====== =====
way                         arm_wrestling  basketball  pool   mean   ms
=========================== ============== =========== ====== ====== =====
zlib on rows                3032           2572        2656   2753   0.03
zlib on run lengths         3253           2668        2783   2902
PNG, 1 bit                  3096           2632        2723   2817   0.11
WebP, lossless              2557           2203        2230   2330   0.15
CCITT group 4 (TIFF)        2382           2309        2148   2280   0.36
LZMA2 on rows               2373           2113        2113   2200
LZMA2 on columns (used)     2048           1817        1813   1893   0.13
=========================== ============== =========== ====== ====== =====

LZMA2 on columns is the smallest, and fast enough. With every 8th frame segmented (the default) the
caches have 11.5 %, 11.9 % and 5.1 % of the size of the H.264 files, with every 4th twice as much.
Reading the contours of a clip of 16 frames, 4 apart, took 1.3 to 1.8 ms (every 8th) on a busy
machine, where decord took 80 ms or more to decode the frames. A video codec was left out: random
access would mean decoding from the last key frame.
"""

import json
import lzma
import struct
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

SUFFIX = '.contours'
MANIFEST = 'contours.json'
FORMAT = 1
MAGIC, END = b'BIMMCTR1', b'BIMMEND1'
HEAD = struct.Struct('<II')  # bytes of a record's content, and their CRC-32
SIZES = struct.Struct('<HHHH')  # height and width of the image, then of the contour
TRAILER = struct.Struct('<QI8s')  # where the index begins, its CRC-32, END
FILTERS = [dict(id=lzma.FILTER_LZMA2, preset=9 | lzma.PRESET_EXTREME, lc=0, lp=0, pb=0)]
TOOL = 'python tools/dataset_converters/extract_contours.py'


class ContourCacheError(ValueError):
    """A cache cannot be used; the message names the file and the command that mends it."""


def encode_contour(contour: np.ndarray) -> bytes:
    """Compress a contour, (H, W) bool."""
    packed = np.packbits(contour, axis=0)
    return lzma.compress(packed.tobytes(), format=lzma.FORMAT_RAW, filters=FILTERS)


def decode_contour(data: bytes, height: int, width: int) -> np.ndarray:
    """The inverse of :func:`encode_contour`: (height, width) uint8, 0 or 1."""
    packed = lzma.decompress(data, format=lzma.FORMAT_RAW, filters=FILTERS)
    packed = np.frombuffer(packed, np.uint8).reshape(-1, width)
    return np.unpackbits(packed, axis=0, count=height)


def image_file_name(key: str, num_files: int) -> str:
    """The file of a cache that holds the image ``key``."""
    return f'images-{zlib.crc32(key.encode()) % num_files:05d}{SUFFIX}'


def pack_header(header: dict) -> bytes:
    """The beginning of a file."""
    text = json.dumps(header, sort_keys=True).encode()
    return MAGIC + struct.pack('<I', len(text)) + text


class ContourFile:
    """One file of a cache, open for reading; a context manager.

    Args:
        path (Path): the file.

    Attributes:
        header (dict): ``kind``, 'videos' or 'images'; for a video ``num_frames``, ``height``,
            ``width`` and ``stride``; for images ``names``, in the order of the records; and
            ``made_by``, the same as in ``contours.json``.

    Raises:
        FileNotFoundError: if there is no such file.
        ContourCacheError: if the file is damaged or not finished.
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
        """Whether a record stands for an image that could not be read."""
        return int(self.offsets[record + 1] - self.offsets[record]) == HEAD.size

    def read(self, record: int) -> tuple[np.ndarray, tuple[int, int]]:
        """One record: contour, (h, w) uint8 of 0 or 1, and (height, width) of its image.

        Raises:
            ContourCacheError: if the record is damaged.
        """
        self.file.seek(int(self.offsets[record]))
        content = read_record(self.file)
        try:
            height, width, *size = SIZES.unpack_from(content)
            return decode_contour(content[SIZES.size :], *size), (height, width)
        except (TypeError, ValueError, struct.error, lzma.LZMAError) as error:
            raise self._damaged(f'record {record} of ') from error

    def _damaged(self, what: str = '') -> ContourCacheError:
        return ContourCacheError(
            f'{what}{self.path} is damaged or not finished: delete that file and run {TOOL} again '
            'as before, it makes what is missing'
        )


def read_header(file) -> dict:
    """The header of an open file, which is left at the first record.

    Raises:
        ValueError: if there is none.
    """
    file.seek(0)
    if file.read(len(MAGIC)) != MAGIC:
        raise ValueError('not a file of contours')
    (length,) = struct.unpack('<I', file.read(4))
    return json.loads(file.read(length))


def read_record(file) -> bytes | None:
    """The content of the record that begins here; None if it is torn or damaged."""
    head = file.read(HEAD.size)
    if len(head) < HEAD.size:
        return None
    length, checksum = HEAD.unpack(head)
    content = file.read(length)
    return content if len(content) == length and zlib.crc32(content) == checksum else None


class ContourCache:
    """The contours of a data set.

    Args:
        root (str | Path): the folder of the cache.

    Attributes:
        manifest (dict): how it was made: ``kind``, ``made_by``, and ``num_files`` for images.

    Raises:
        FileNotFoundError: if there is no cache.
        ContourCacheError: if it is of another version.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        path = self.root / MANIFEST
        if not path.is_file():
            raise FileNotFoundError(missing_cache(root))
        try:
            self.manifest = json.loads(path.read_text())
        except ValueError as error:
            raise ContourCacheError(
                f'{path} is damaged: delete that file and run {TOOL} again as before'
            ) from error
        if self.manifest.get('format') != FORMAT:
            raise ContourCacheError(
                f'{path} is of format {self.manifest.get("format")}, but {FORMAT} is needed: make '
                f'the cache anew in another folder with {TOOL}'
            )

    def check(self, kind: str, keys: Sequence[str]) -> None:
        """Check that there is a file for every sample.

        Args:
            kind (str): 'videos' or 'images'.
            keys (Sequence[str]): paths of the samples below the folder of the data set.

        Raises:
            ContourCacheError: if the cache is of the other kind, or the number of samples without
                contours, and the first of them.
        """
        if self.manifest['kind'] != kind:
            raise ContourCacheError(
                f'contour_cache={str(self.root)!r} is a cache of {self.manifest["kind"]}, but the '
                f'data set holds {kind}; make one with {TOOL} {kind}'
            )
        files = {self.file_of(key): key for key in reversed(keys)}
        missing = [key for file, key in files.items() if not file.is_file()]
        if missing:
            raise ContourCacheError(
                f'contour_cache={str(self.root)!r} has no contours of {len(missing)} of '
                f'{len(files)} {"files of images" if kind == "images" else "videos"}, as '
                f'{missing[-1]!r}. Run {TOOL} again as before to finish it; samples named in '
                f'{self.root}/broken*.txt must be mended or left out of ann_file'
            )

    def file_of(self, key: str) -> Path:
        """The file that holds the contours of a video or image."""
        if self.manifest['kind'] == 'videos':
            return self.root / (key + SUFFIX)
        return self.root / image_file_name(key, self.manifest['num_files'])

    def frames(
        self, key: str, indices: Iterable[int], num_frames: int, size: tuple[int, int]
    ) -> list[np.ndarray]:
        """Contours of some frames of a video; the nearest segmented frame stands for each.

        Args:
            key (str): path of the video below the folder of the data set.
            indices (Iterable[int]): frames, from 0.
            num_frames (int): frames that the video has.
            size (tuple[int, int]): its height and width.

        Returns:
            list[np.ndarray]: (h, w) uint8 of 0 or 1 each. The size can be smaller than ``size``.

        Raises:
            FileNotFoundError, ContourCacheError: if there are none, they are damaged, or are those
                of another video.
        """
        with self._open(key) as file:
            header = file.header
            known = header['num_frames'], (header['height'], header['width'])
            if known != (num_frames, tuple(size)):
                raise self._other(
                    key,
                    file,
                    f'a video of {known[0]} frames of {known[1][0]}x{known[1][1]} pixels, but it '
                    f'has {num_frames} frames of {size[0]}x{size[1]}',
                )
            stride, contours = header['stride'], {}
            records = [
                min((int(index) + (stride - 1) // 2) // stride, len(file) - 1) for index in indices
            ]
            for record in set(records):
                contours[record] = file.read(record)[0]
        return [contours[record] for record in records]

    def image(self, key: str, size: tuple[int, int]) -> np.ndarray:
        """The contour of an image, as :meth:`frames`."""
        with self._open(key) as file:
            try:
                record = file.header['names'].index(key)
            except ValueError:
                raise ContourCacheError(
                    f'{file.path} has no contour of {key!r}: the cache was made of other images; '
                    f'make one of these in another folder with {TOOL}'
                ) from None
            if file.is_empty(record):
                raise ContourCacheError(
                    f'{file.path}: {key!r} could not be read when the contours were made; mend it, '
                    f'delete that file of contours and run {TOOL} again as before'
                )
            contour, known = file.read(record)
            if known != tuple(size):
                raise self._other(
                    key,
                    file,
                    f'an image of {known[0]}x{known[1]} pixels, but it has {size[0]}x{size[1]}',
                )
            return contour

    def _open(self, key: str) -> ContourFile:
        try:
            return ContourFile(self.file_of(key))
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f'no contours of {key!r}: there is no {self.file_of(key)}; run {TOOL} again as '
                'before to finish the cache'
            ) from error

    def _other(self, key: str, file: ContourFile, found: str) -> ContourCacheError:
        return ContourCacheError(
            f'{file.path} does not fit {key!r}: it was made of {found}; delete that file and run '
            f'{TOOL} again as before'
        )


def missing_cache(
    root: str | Path, kind: str = '{videos,images}', folder: str = 'FOLDER', ann_file: str = ''
) -> str:
    """The message for a cache that is not there, with the command that makes it."""
    return (
        f'no contours in {str(root)!r}: there is no {Path(root) / MANIFEST}. Make them with\n'
        f'    {TOOL} {kind} {folder or "FOLDER"} {root} '
        f'{f"--ann-file {ann_file} " if ann_file else ""}--model-type vit_h '
        '--checkpoint sam_vit_h_4b8939.pth'
    )
