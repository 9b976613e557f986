"""Pack videos into tar files in WebDataset's layout, with an index for random access.

A shard holds, for each of its videos, the file under a number (``000000042.mp4``), what it was
called and its label (``000000042.json``), and the label alone (``000000042.cls``); so WebDataset
reads it in order. ``index.txt`` is a list as of any data set, in the order of the list that was
packed, whose paths say where in which shard a video lies (:mod:`bimm_mm.video.parts`): everything
that reads lists of videos reads it. Source: our choice.
"""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from ..utils.commands import command
from ..utils.files import UNFINISHED, finish, write_text
from ..utils.lists import EntryList
from ..video.parts import Part

INDEX, SETTINGS, PATTERN = 'index.txt', 'shards.json', 'videos-{:06d}.tar'


class ShardPacker:
    """Packs the videos of a list; what was packed already is left as it is.

    Args:
        entries: The list; paths are relative to ``folder``.
        folder: The folder of the videos.
        output: The folder of the shards, which exists.
        shard_size: Bytes of videos in a shard; one more video may go beyond.
        seed: Of the order in which videos are spread over the shards; None for that of the list.

    Attributes:
        plan: For each shard, the numbers of its videos in the list.

    Raises:
        OSError: Videos are missing.
        ValueError: ``output`` holds shards of another list, or made with other settings.
    """

    def __init__(
        self,
        entries: EntryList,
        folder: str | os.PathLike,
        output: str | os.PathLike,
        shard_size: int = 10**9,
        seed: int | None = 0,
    ) -> None:
        self.entries, self.folder, self.output = entries, Path(folder), Path(output)
        order = np.arange(len(entries))
        if seed is not None:
            order = np.random.default_rng(seed).permutation(order)
        sizes = np.array([self._size_of(number) for number in range(len(entries))])
        first = np.concatenate([[0], np.cumsum(sizes[order])[:-1]]) // shard_size
        self.plan = np.split(order, np.flatnonzero(np.diff(first)) + 1)
        self._check_settings(dict(shard_size=shard_size, seed=seed), sizes)

    def _size_of(self, number: int) -> int:
        path = self.folder / self.entries.path(number)
        try:
            return path.stat().st_size
        except OSError as error:
            verify = command('verify', 'misc/verify_dataset.py')
            advice = f'{verify} --out writes a list of the good files'
            entry = self.entries[number]
            raise OSError(f'{entry.where}: {path}: {error.strerror}; {advice}') from error

    def _check_settings(self, settings: dict, sizes: np.ndarray) -> None:
        digest = hashlib.sha256(sizes.tobytes())
        for entry in self.entries:
            digest.update(entry.line.encode('utf-8', 'surrogateescape') + b'\n')
        settings = settings | dict(videos=len(sizes), list=digest.hexdigest())
        path = self.output / SETTINGS
        if path.is_file() and json.loads(path.read_text()) != settings:
            raise ValueError(
                f'{str(self.output)!r} holds shards of another list, or of other settings: '
                f'{path.read_text().strip()}. Give the same, or another folder'
            )
        write_text(path, json.dumps(settings) + '\n')

    def path(self, shard: int) -> Path:
        """Of a shard."""
        return self.output / PATTERN.format(shard)

    def is_done(self, shard: int) -> bool:
        """Whether a shard is complete, and listed."""
        return self.path(shard).is_file() and self._places(shard).is_file()

    def _places(self, shard: int) -> Path:
        """Where each of its videos lies."""
        return self.path(shard).with_suffix('.json')

    def pack(self, shard: int) -> Iterator[int]:
        """Write a shard.

        Yields:
            int: The number of each video that was written.

        Raises:
            OSError: A video cannot be read, or the shard not be written.
        """
        path = self.path(shard)
        temporary = path.with_name(f'.{path.name}{UNFINISHED}')
        places = {}
        with tarfile.open(temporary, 'w', format=tarfile.GNU_FORMAT) as tar:
            for number in map(int, self.plan[shard]):
                places[number] = self._add(tar, number)
                yield number
        finish(temporary, path)
        write_text(self._places(shard), json.dumps(places) + '\n')

    def _add(self, tar: tarfile.TarFile, number: int) -> tuple[int, int]:
        """Add a video and what belongs to it; where it begins, and its size."""
        entry = self.entries[number]
        key, ending = f'{number:09d}', PurePosixPath(entry.path).suffix.lower() or '.mp4'
        path = self.folder / entry.path
        info = tarfile.TarInfo(key + ending)
        with open(path, 'rb') as file:
            status = os.fstat(file.fileno())
            info.size, info.mtime = status.st_size, int(status.st_mtime)
            tar.addfile(info, file)
        begin = tar.offset - -(-info.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        about = dict(path=entry.path, fields=entry.fields)
        _add_text(tar, f'{key}.json', json.dumps(about), info.mtime)
        if entry.fields:
            _add_text(tar, f'{key}.cls', entry.fields[-1], info.mtime)
        return begin, info.size

    def write_index(self) -> bool:
        """Write the index, if all shards are there.

        Returns:
            Whether it was written.
        """
        if not all(map(self.is_done, range(len(self.plan)))):
            return False
        lines = [''] * len(self.entries)
        for shard in range(len(self.plan)):
            name = self.path(shard).name
            for number, place in json.loads(self._places(shard).read_text()).items():
                entry = self.entries[int(number)]
                path = str(Part(name, *place, entry.path))
                lines[int(number)] = ' '.join([path, *entry.fields])
        write_text(self.output / INDEX, '\n'.join(lines) + '\n')
        return True


def _add_text(tar: tarfile.TarFile, name: str, text: str, mtime: int) -> None:
    data = text.encode('utf-8', 'surrogateescape')
    info = tarfile.TarInfo(name)
    info.size, info.mtime = len(data), mtime
    tar.addfile(info, io.BytesIO(data))
