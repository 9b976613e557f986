"""The contours of a data set, made once and read during training."""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from ..video.parts import part_of
from .format import (
    FORMAT,
    MANIFEST,
    SUFFIX,
    ContourCacheError,
    ContourFile,
    image_file_name,
    tool,
)


class ContourCache:
    """The contours of a data set.

    Args:
        root: The folder of the cache.

    Attributes:
        manifest: How it was made: ``kind``, ``made_by``, and ``num_files`` for images.

    Raises:
        FileNotFoundError: There is no cache.
        ContourCacheError: It is of another version.
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
                f'{path} is damaged: delete that file and run {tool()} again with the same settings'
            ) from error
        if self.manifest.get('format') != FORMAT:
            raise ContourCacheError(
                f'{path} is of format {self.manifest.get("format")}, but {FORMAT} is needed: make '
                f'a new cache in another folder with {tool()}'
            )

    @property
    def what(self) -> str:
        """What it holds, see :func:`bimm_mm.contours.boundaries.merge_masks`."""
        return self.manifest['made_by'].get('what', 'outline')

    def check(self, kind: str, keys: Sequence[str]) -> None:
        """Check that there is a file for every sample.

        Args:
            kind: 'videos' or 'images'.
            keys: Paths of the samples below the folder of the data set.

        Raises:
            ContourCacheError: The cache is of the other kind, or lacks samples; the message has
                their number and the first of them.
        """
        if self.manifest['kind'] != kind:
            raise ContourCacheError(
                f'contour_cache={str(self.root)!r} is a cache of {self.manifest["kind"]}, but the '
                f'data set holds {kind}; make one with {tool()} {kind}'
            )
        if kind == 'videos':
            missing = self._missing_videos(keys)
            number, of, first = len(missing), len(keys), missing[0] if len(missing) else None
        else:
            files = {self.file_of(key): key for key in reversed(keys)}
            missing = [key for file, key in files.items() if not file.is_file()]
            number, of, first = len(missing), len(files), missing[-1] if missing else None
        if number:
            first = keys[first] if kind == 'videos' else first
            raise ContourCacheError(
                f'contour_cache={str(self.root)!r} has no contours of {number} of '
                f'{of} {"files of images" if kind == "images" else "videos"}, as '
                f'{first!r}. Run {tool()} again with the same settings to finish it; samples '
                f'named in {self.root}/broken*.txt must be mended or left out of ann_file'
            )

    def _missing_videos(self, keys: Sequence[str]) -> np.ndarray:
        """Places of those that have no file: one walk over the cache, and 16 bytes for each."""
        wanted = np.fromiter((hash(key) for key in keys), np.int64, len(keys))
        there = np.fromiter((hash(name) for name in _files_below(self.root, '')), np.int64)
        return np.flatnonzero(~np.isin(wanted, there))

    def file_of(self, key: str) -> Path:
        """Return the file that holds the contours of a video or image."""
        if self.manifest['kind'] == 'videos':
            return self.root / (key + SUFFIX)
        return self.root / image_file_name(key, self.manifest['num_files'])

    def frames(
        self, key: str, indices: Iterable[int], num_frames: int, size: tuple[int, int]
    ) -> list[np.ndarray]:
        """Read the contours of some frames of a video, each from the nearest segmented frame.

        Args:
            key: Path of the video below the folder of the data set.
            indices: Frames, from 0.
            num_frames: Number of frames that the video has.
            size: Its height and width. They can be others than those that the contours were made
                of, as the video may have been rewritten, but not of another shape.

        Returns:
            (h, w) uint8 each, of 0 or 1, or numbers of masks. The size can be
            smaller than ``size``.

        Raises:
            FileNotFoundError, ContourCacheError: There are none, they are damaged, or they are
                those of another video.
        """
        with self._open(key) as file:
            header = file.header
            known = header['num_frames'], (header['height'], header['width'])
            if known[0] != num_frames or not same_shape(known[1], size):
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
        """Read the contour of an image, as :meth:`frames`."""
        with self._open(key) as file:
            try:
                record = file.header['names'].index(key)
            except ValueError:
                raise ContourCacheError(
                    f'{file.path} has no contour of {key!r}: the cache was made of other images; '
                    f'make one of these in another folder with {tool()}'
                ) from None
            if file.is_empty(record):
                raise ContourCacheError(
                    f'{file.path}: {key!r} could not be read when the contours were made; mend it, '
                    f'delete that file of contours and run {tool()} again with the same settings'
                )
            contour, known = file.read(record)
            if not same_shape(known, size):
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
                f'no contours of {key!r}: there is no {self.file_of(key)}; run {tool()} again with '
                'the same settings to finish the cache'
            ) from error

    def _other(self, key: str, file: ContourFile, found: str) -> ContourCacheError:
        return ContourCacheError(
            f'{file.path} does not fit {key!r}: it was made of {found}; delete that file and run '
            f'{tool()} again with the same settings'
        )


def _files_below(folder: str | os.PathLike, prefix: str) -> Iterator[str]:
    """Names of the videos that have a file of contours, relative to the cache; links are followed.

    Raises:
        OSError: A folder cannot be read.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(SUFFIX):
                yield prefix + entry.name.removesuffix(SUFFIX)
            elif entry.is_dir():
                yield from _files_below(entry.path, f'{prefix}{entry.name}/')


def same_shape(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Tell whether two sizes, (height, width), have the same aspect ratio, to a pixel.

    That is, whether the larger one can be scaled so that no side is off by more than a pixel.
    """
    small, large = sorted((tuple(size), tuple(other)))
    low = max((a - 1) / b for a, b in zip(small, large, strict=True))
    high = min((a + 1) / b for a, b in zip(small, large, strict=True))
    return low <= high


def sample_key(path: str | os.PathLike, folder: str | os.PathLike) -> str:
    """Return the path of a sample below the folder of its data set: its name in a cache.

    A video in a tar shard has the name that it had before.

    Raises:
        ValueError: The sample is not below the folder.
    """
    part = part_of(path)
    if part is not None:
        return part.name
    key = os.path.relpath(path, folder or '.')
    if key.split(os.sep)[0] in (os.pardir, os.curdir):
        raise ValueError(
            f'{str(path)!r} is not below the folder {str(folder)!r}, and contours are kept by the '
            'path below it: name a folder that holds all samples, or link them into one'
        )
    return key.replace(os.sep, '/')


def key_of(path: str, folder: str | os.PathLike) -> str:
    """As :func:`sample_key`, of a path as a list has it: relative to the folder, or absolute."""
    if path[:1] not in '/.' and not any(odd in path for odd in ('/.', '//', '.tar/')):
        return path.replace(os.sep, '/')
    return sample_key(os.path.join(folder, path), folder)


def missing_cache(
    root: str | Path, kind: str = '{videos,images}', folder: str = 'FOLDER', ann_file: str = ''
) -> str:
    """Return the message for a cache that does not exist, with the command that makes it."""
    return (
        f'no contours in {str(root)!r}: there is no {Path(root) / MANIFEST}. Make them with\n'
        f'    {tool()} {kind} {folder or "FOLDER"} {root} '
        f'{f"--ann-file {ann_file} " if ann_file else ""}--model-type vit_h '
        '--checkpoint sam_vit_h_4b8939.pth'
    )
