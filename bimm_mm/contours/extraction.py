"""Make the contours of a data set, file by file, so that a run can be stopped and continued."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch

from ..utils.media import IMAGES, VIDEOS, list_media
from .cache import sample_key
from .format import SUFFIX, ContourCacheError, ContourFile, image_file_name
from .writer import ContourWriter

EXTENSIONS = dict(videos=VIDEOS, images=IMAGES)
IMAGES_PER_FILE = 256


def list_data(kind: str, folder: Path, ann_file: Path | None) -> list[str]:
    """List the paths of a data set below its folder, sorted, each once.

    Args:
        kind: 'videos' or 'images'.
        folder: The folder of the data set.
        ann_file: A list of paths, with or without labels; None takes all files of the folder.

    Raises:
        FileNotFoundError: There is no such folder or list, or nothing in it.
        ValueError: A line of the list has no path of the right kind, or one outside the folder.
    """
    extensions = EXTENSIONS[kind]
    if not folder.is_dir():
        raise FileNotFoundError(f'no folder {folder}')
    if ann_file is None:
        return list_media(folder, extensions)
    names = _read_list(ann_file, folder, extensions)
    if not names:
        raise FileNotFoundError(f'no {kind} ({", ".join(extensions)}) in {ann_file}')
    return sorted(set(names))


def _read_list(ann_file: Path, folder: Path, extensions: tuple[str, ...]) -> list[str]:
    if not ann_file.is_file():
        raise FileNotFoundError(f'no list {ann_file}')
    names = []
    lines = ann_file.read_text(errors='surrogateescape').splitlines()
    for number, line in enumerate(lines, start=1):
        name = line.strip()
        while name and not name.lower().endswith(extensions):
            name = name.rpartition(' ')[0].rstrip()  # labels
        if name:
            try:
                names.append(sample_key(folder / name, folder))
            except ValueError as error:
                raise ValueError(f'line {number} of {ann_file}: {error}') from None
        elif line.strip():
            raise ValueError(
                f'line {number} of {ann_file} has no path that ends in '
                f'{", ".join(extensions)}: {line!r}'
            )
    return names


def count_files(names: list[str]) -> int:
    """Count the files that the contours of some images are divided into."""
    return -(-len(names) // IMAGES_PER_FILE)


def read_image(path: Path) -> np.ndarray:
    """Read an image as training does, turned by its EXIF entry: (H, W, 3) uint8, RGB.

    Raises:
        ValueError: OpenCV cannot read it, or it is too large.
        OSError: The file cannot be read.
    """
    # OpenCV's own reading of files crashes at names that are not UTF-8
    data = np.fromfile(path, np.uint8)
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except cv2.error as error:
        raise ValueError(str(error)) from error
    if image is None:
        raise ValueError('OpenCV cannot read it as an image')
    return np.ascontiguousarray(image[..., ::-1])


def blames_device(error: Exception) -> bool:
    """Tell whether an error says that the device fails, rather than the picture.

    After most errors of a GPU nothing works in that process any more. Lack of memory is not one.
    """
    return isinstance(error, getattr(torch, 'AcceleratorError', ())) and not isinstance(
        error, torch.OutOfMemoryError
    )


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
                contour = self.contour(name, image)
                if contour is None:
                    writer.discard()
                    return
                writer.add(contour, (height, width))
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
                try:
                    image = read_image(self.folder / name)
                except (OSError, ValueError) as error:
                    self.report(name, error)
                    writer.add(None)
                else:
                    writer.add(self.contour(name, image), image.shape[:2])
                progress.step(1 / len(names))
            writer.finish()

    def contour(self, name: str, image: np.ndarray) -> np.ndarray | None:
        """Segment an image; one that cannot be segmented, as it is too large, is reported."""
        try:
            return self.segment(image)
        except (RuntimeError, MemoryError) as error:
            if blames_device(error):
                raise
            height, width = image.shape[:2]
            self.report(name, f'of {height}x{width} pixels: {error or type(error).__name__}')
            return None

    def report(self, name: str, error: object) -> None:
        """Note a file that cannot be read or segmented."""
        print(f'no contours of {self.folder / name}: {str(error)[:200]}', file=sys.stderr)
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
            text = '\n'.join(sorted(self.broken)) + '\n'
            report.write_text(text, errors='surrogateescape')
            print(f'{label}{len(self.broken)} files have no contours; they are listed in {report}')
        else:
            report.unlink(missing_ok=True)
