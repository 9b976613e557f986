"""Make the contours of a data set, file by file, so that a run can be stopped and continued."""

import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from ..utils.lists import read_list
from ..utils.media import IMAGES, VIDEOS, list_media, read_image
from ..video.reader import VideoError, VideoReader, open_video
from .change import Chain
from .format import SUFFIX, ContourCacheError, ContourFile, image_file_name
from .progress import ExtractionProgress
from .writer import ContourWriter

EXTENSIONS = dict(videos=VIDEOS, images=IMAGES)
IMAGES_PER_FILE = 256


class NoContours(ValueError):
    """A picture cannot be segmented."""


def list_data(kind: str, folder: Path, ann_file: Path | None) -> list[str]:
    """List the paths of a data set below its folder, sorted, each once.

    Args:
        kind: 'videos' or 'images'.
        folder: The folder of the data set.
        ann_file: A list of paths, with or without labels; None takes all files of the folder.

    Raises:
        FileNotFoundError: There is no such folder or list, or nothing in the folder.
        ValueError: The list is empty, or a line of it has no path of the right kind, or one outside
            the folder.
    """
    extensions = EXTENSIONS[kind]
    if not folder.is_dir():
        raise FileNotFoundError(f'no folder {folder}')
    if ann_file is None:
        return list_media(folder, extensions)
    return sorted(set(_read_list(ann_file, folder, extensions)))


def _read_list(ann_file: Path, folder: Path, extensions: tuple[str, ...]) -> list[str]:
    if not ann_file.is_file():
        raise FileNotFoundError(f'no list {ann_file}')
    names = []
    for entry in read_list(ann_file):
        if not entry.path.lower().endswith(extensions):
            raise ValueError(
                f'{entry.where}: no path that ends in {", ".join(extensions)} in {entry.line!r}'
            )
        names.append(entry.below(folder))
    return names


def count_files(names: list[str]) -> int:
    """Count the files that the contours of some images are divided into."""
    return -(-len(names) // IMAGES_PER_FILE)


def blames_device(error: Exception) -> bool:
    """Tell whether an error says that the device fails, rather than the picture.

    After most errors of a GPU nothing works in that process any more. Lack of memory is not one.
    """
    return isinstance(error, getattr(torch, 'AcceleratorError', ())) and not isinstance(
        error, torch.OutOfMemoryError
    )


@dataclass
class Extractor:
    """Makes the files of a cache that do not exist yet.

    A file is made in groups of ``images_per_batch`` records, which begin at the same records in
    every run: what a segmenter makes of a picture may depend on its batch in the last bit.

    Args:
        kind: 'videos' or 'images'.
        folder: The folder of the data set.
        cache: The folder of the cache, with a manifest.
        segment: Returns the contours, (h, w) bool or uint8 each, of pictures, (H, W, 3) uint8, RGB.
        made_by: Settings that the contours depend on, kept in every file.
        stride: Every n-th frame of a video is segmented.
        images_per_batch: Pictures that are given to ``segment`` at a time.
        reuse_below: A frame of a video takes the contour of the last segmented one if
            :func:`largest_change` between them is less than this.
        part: The part of the work that is done here, from 0.
        parts: Number of parts; other processes do the others.

    Attributes:
        broken: Samples that have no contours.
        reused: Frames that took the contour of another one.
    """

    kind: str
    folder: Path
    cache: Path
    segment: Callable[[list[np.ndarray]], list[np.ndarray]]
    made_by: dict
    stride: int = 8
    images_per_batch: int = 1
    reuse_below: float = 0.0
    part: int = 0
    parts: int = 1
    broken: list[str] = field(default_factory=list)
    reused: int = 0

    def video(self, name: str, progress: ExtractionProgress) -> None:
        """Make the contours of a video; one that cannot be read is reported."""
        path = self.cache / (name + SUFFIX)
        if path.exists():
            return
        try:
            reader = open_video(self.folder / name)
        except (VideoError, OSError) as error:
            self.report(name, error)
            return
        with closing(reader):
            height, width = reader.shape
            header = dict(
                kind='videos',
                num_frames=len(reader),
                height=height,
                width=width,
                stride=self.stride,
                made_by=self.made_by,
            )
            count = len(range(0, len(reader), self.stride))
            with ContourWriter(path, header, count) as writer:
                try:
                    self.frames(reader, writer, progress)
                except (VideoError, NoContours) as error:
                    self.report(name, error)
                    writer.discard()
                    return
                writer.finish()

    def frames(
        self, reader: VideoReader, writer: ContourWriter, progress: ExtractionProgress
    ) -> None:
        """Make the records of a video that are missing.

        Raises:
            VideoError: A frame cannot be decoded.
            NoContours: A frame cannot be segmented.
        """
        chain = Chain(self.reuse_below)
        first = writer.done // self.images_per_batch * self.images_per_batch
        if self.reuse_below:  # which frame was the last segmented one follows from all before
            first = 0
        for start in range(first, writer.count, self.images_per_batch):
            records = range(start, min(start + self.images_per_batch, writer.count))
            images = list(reader.get_batch([record * self.stride for record in records]))
            sources = [chain.source(*pair) for pair in zip(records, images, strict=True)]
            if records[-1] < writer.done:
                continue
            new = [record for record in records if record in sources]
            made = self.contours([images[record - start] for record in new])
            contours = dict(zip(new, made, strict=True))
            for record, source in zip(records, sources, strict=True):
                if record < writer.done:
                    continue
                if source == record:
                    writer.add(contours[record], reader.shape)
                else:
                    writer.repeat(source)
                    self.reused += 1
                progress.step(1 / writer.count)

    def images(self, path: Path, names: list[str], progress: ExtractionProgress) -> None:
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
            size = self.images_per_batch
            for start in range(writer.done // size * size, len(names), size):
                group = self.group(names[start : start + size])
                for record, (contour, shape) in enumerate(group, start):
                    if record >= writer.done:
                        writer.add(contour, shape)
                        progress.step(1 / len(names))
            writer.finish()

    def group(self, names: list[str]) -> list[tuple[np.ndarray | None, tuple[int, int]]]:
        """Read and segment some images: contour, or None, and size of each."""
        images = {}
        for name in names:
            try:
                images[name] = read_image(self.folder / name)
            except (OSError, ValueError) as error:
                self.report(name, error)
        try:
            contours = dict(zip(images, self.contours(list(images.values())), strict=True))
        except NoContours:  # of one of them: which?
            contours = {}
            for name, image in images.items():
                try:
                    contours[name] = self.contours([image])[0]
                except NoContours as error:
                    self.report(name, error)
        sizes = {name: images[name].shape[:2] for name in contours}
        return [(contours.get(name), sizes.get(name, (0, 0))) for name in names]

    def contours(self, images: list[np.ndarray]) -> list[np.ndarray]:
        """Segment pictures.

        Raises:
            NoContours: It is not possible, as one is too large.
        """
        try:
            return self.segment(images) if images else []
        except (RuntimeError, MemoryError) as error:
            if blames_device(error):
                raise
            sizes = ', '.join(f'{image.shape[0]}x{image.shape[1]}' for image in images)
            raise NoContours(f'of {sizes} pixels: {error or type(error).__name__}') from error

    def report(self, name: str, error: object) -> None:
        """Note a file that cannot be read or segmented."""
        print(f'no contours of {self.folder / name}: {str(error)[:200]}', file=sys.stderr)
        if name not in self.broken:
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
        with ExtractionProgress(label, len(jobs)) as progress:
            for done, (make, arguments) in enumerate(jobs, start=1):
                make(*arguments, progress)
                progress.set(done)
        if self.reuse_below and progress.segmented:
            share = self.reused / progress.segmented
            print(f'{label}{share:.1%} of the frames took the contour of the one before')
        name = f'broken_{self.part}_of_{self.parts}.txt' if self.parts > 1 else 'broken.txt'
        report = self.cache / name
        if self.broken:
            text = '\n'.join(sorted(self.broken)) + '\n'
            report.write_text(text, errors='surrogateescape')
            print(f'{label}{len(self.broken)} files have no contours; they are listed in {report}')
        else:
            report.unlink(missing_ok=True)
