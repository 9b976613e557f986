"""Make the contours of a data set, file by file, so that a run can be stopped and continued."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from mmengine.fileio import list_dir_or_file

from ..utils.media import VIDEOS
from .format import SUFFIX, ContourCacheError, ContourFile, image_file_name
from .writer import ContourWriter

EXTENSIONS = dict(
    videos=VIDEOS,
    images=('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif'),
)
IMAGES_PER_FILE = 256


def list_data(kind: str, folder: Path, ann_file: Path | None) -> list[str]:
    """List the paths of a data set below its folder, sorted, each once.

    Args:
        kind: 'videos' or 'images'.
        folder: The folder of the data set.
        ann_file: A list of paths, with or without labels; None takes all files of the folder.

    Raises:
        FileNotFoundError: There is no such folder or list, or nothing in it.
        ValueError: A line of the list has no path of the right kind.
    """
    extensions = tuple(EXTENSIONS[kind])
    if not folder.is_dir():
        raise FileNotFoundError(f'no folder {folder}')
    if ann_file is None:
        # as the data sets list it: links are followed, hidden files left out
        names = list_dir_or_file(folder, list_dir=False, recursive=True)
        names = [name for name in names if name.lower().endswith(extensions)]
    else:
        names = _read_list(ann_file, extensions)
    if not names:
        raise FileNotFoundError(f'no {kind} ({", ".join(extensions)}) in {ann_file or folder}')
    return sorted(set(names))


def _read_list(ann_file: Path, extensions: tuple[str, ...]) -> list[str]:
    if not ann_file.is_file():
        raise FileNotFoundError(f'no list {ann_file}')
    names = []
    for number, line in enumerate(ann_file.read_text().splitlines(), start=1):
        name = line.strip()
        while name and not name.lower().endswith(extensions):
            name = name.rpartition(' ')[0].rstrip()  # labels
        if name:
            names.append(Path(name).as_posix())
        elif line.strip():
            raise ValueError(
                f'line {number} of {ann_file} has no path that ends in '
                f'{", ".join(extensions)}: {line!r}'
            )
    return names


def count_files(names: list[str]) -> int:
    """Count the files that the contours of some images are divided into."""
    return -(-len(names) // IMAGES_PER_FILE)


class Progress:
    """Print how far a run is, at most every ten seconds, and how long it will take.

    Args:
        total: Number of files that this process writes.
        label: What is printed first.
    """

    def __init__(self, total: int, label: str) -> None:
        self.total, self.label = total, label
        self.done = self.segmented = 0
        self.work = 0.0  # files made in this run, in part or whole
        self.start = self.last = time.monotonic()

    def step(self, share: float) -> None:
        """Count a frame or image that was segmented, which is this share of a file."""
        self.segmented += 1
        self.work += share
        if time.monotonic() - self.last > 10:
            self.report()

    def report(self) -> None:
        """Print a line."""
        self.last = time.monotonic()
        seconds = self.last - self.start
        text = f'{self.label}{self.done} of {self.total} files, {self.segmented} contours made'
        if self.segmented:
            left = seconds / self.work * max(self.total - self.done - self.work % 1, 0)
            text += f', {seconds / self.segmented:.2f} s each, {duration(left)} left'
        print(text, flush=True)


def duration(seconds: float) -> str:
    """Format a time as '2 d 03:04:05'."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return (f'{days} d ' if days else '') + f'{hours:02d}:{minutes:02d}:{seconds:02d}'


@dataclass
class Extractor:
    """Makes the files of a cache that do not exist yet.

    Args:
        kind: 'videos' or 'images'.
        folder: The folder of the data set.
        cache: The folder of the cache, with a manifest.
        segment: Returns the contour, (h, w) bool, of an image, (H, W, 3) uint8, RGB.
        made_by: Settings that the contours depend on, kept in every file.
        stride: Every n-th frame of a video is segmented.
        part: The part of the work that is done here, from 0.
        parts: Number of parts; other processes do the others.
    """

    kind: str
    folder: Path
    cache: Path
    segment: Callable[[np.ndarray], np.ndarray]
    made_by: dict
    stride: int = 8
    part: int = 0
    parts: int = 1
    broken: list[str] = field(default_factory=list)

    def video(self, name: str, progress: Progress) -> None:
        """Make the contours of a video; one that cannot be read is reported."""
        import decord

        path = self.cache / (name + SUFFIX)
        if path.exists():
            return
        try:
            reader = decord.VideoReader(str(self.folder / name), num_threads=1)
            height, width = reader[0].shape[:2]
        except Exception as error:  # decord's errors have no common class below
            self.report(name, error)
            return
        header = dict(
            kind='videos',
            num_frames=len(reader),
            height=height,
            width=width,
            stride=self.stride,
            made_by=self.made_by,
        )
        frames = range(0, len(reader), self.stride)
        with ContourWriter(path, header, len(frames)) as writer:
            for frame in frames[writer.done :]:
                try:
                    image = reader[frame].asnumpy()
                except Exception as error:
                    self.report(name, error)
                    writer.discard()
                    return
                writer.add(self.segment(image), (height, width))
                progress.step(1 / len(frames))
            writer.finish()

    def images(self, path: Path, names: list[str], progress: Progress) -> None:
        """Make the contours of the images of one file of the cache."""
        if path.exists():
            with ContourFile(path) as file:
                if file.header['names'] != names:
                    raise ContourCacheError(
                        f'{path} was made of other images: use the same list, or another folder'
                    )
                self.broken += [names[i] for i in range(len(file)) if file.is_empty(i)]
            return
        header = dict(kind='images', names=names, made_by=self.made_by)
        with ContourWriter(path, header, len(names)) as writer:
            self.broken += [names[i] for i in writer.empty]
            for name in names[writer.done :]:
                # as training reads it, turned by its EXIF entry
                image = cv2.imread(str(self.folder / name), cv2.IMREAD_COLOR)
                if image is None:
                    self.report(name, 'OpenCV cannot read it as an image')
                    writer.add(None)
                else:
                    writer.add(self.segment(image[..., ::-1].copy()), image.shape[:2])
                progress.step(1 / len(names))
            writer.finish()

    def report(self, name: str, error: object) -> None:
        """Note a file that cannot be read."""
        print(f'cannot read {self.folder / name}: {str(error)[:200]}', file=sys.stderr)
        self.broken.append(name)

    def run(self, names: list[str]) -> None:
        """Make this process's part of the cache, and write the report."""
        if self.kind == 'videos':
            jobs = [(self.video, (name,)) for name in names]
        else:
            groups: dict[str, list[str]] = {}
            for name in names:
                groups.setdefault(image_file_name(name, count_files(names)), []).append(name)
            jobs = [(self.images, (self.cache / k, v)) for k, v in sorted(groups.items())]
        jobs = jobs[self.part :: self.parts]
        label = f'[{self.part}/{self.parts}] ' if self.parts > 1 else ''
        progress = Progress(len(jobs), label)
        for make, arguments in jobs:
            make(*arguments, progress)
            progress.done += 1
        progress.report()
        name = f'broken_{self.part}_of_{self.parts}.txt' if self.parts > 1 else 'broken.txt'
        report = self.cache / name
        if self.broken:
            report.write_text('\n'.join(sorted(self.broken)) + '\n')
            print(f'{label}{len(self.broken)} files could not be read; they are listed in {report}')
        else:
            report.unlink(missing_ok=True)
