r"""Make the contours of a data set with Segment Anything, for training to read (docs/contours.md).

Examples::

    python tools/dataset_converters/extract_contours.py videos data/kinetics400/videos_train \
        data/kinetics400/contours --model-type vit_h --checkpoint sam_vit_h_4b8939.pth
    torchrun --nproc-per-node 8 tools/dataset_converters/extract_contours.py images \
        data/imagenet/train data/imagenet/contours --checkpoint sam_vit_h_4b8939.pth

The run can be stopped at any point: the same command goes on where it stopped.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.fileio import list_dir_or_file

from bimm_mm.datasets.contour_cache import (
    SUFFIX,
    ContourCacheError,
    ContourFile,
    image_file_name,
)
from bimm_mm.datasets.contour_writer import ContourWriter, no_space, write_manifest
from bimm_mm.models.targets.sam import file_checksum, load_sam, make_generator, segment_contours
from bimm_mm.utils.media import VIDEOS

EXTENSIONS = dict(
    videos=VIDEOS,
    images='.jpg .jpeg .png .ppm .bmp .pgm .tif'.split(),
)
IMAGES_PER_FILE = 256


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('kind', choices=('videos', 'images'))
    parser.add_argument('folder', type=Path, help='the folder of the data, as the configs have it')
    parser.add_argument('cache', type=Path, help='folder to write to')
    parser.add_argument(
        '--ann-file', type=Path, help='take the paths of this list, relative to the folder'
    )
    parser.add_argument('--checkpoint', required=True, help="SAM's weights")
    parser.add_argument(
        '--model-type', default='vit_h', help='vit_b, vit_l or vit_h; default: vit_h'
    )
    parser.add_argument('--device', help='default: a GPU where there is one')
    parser.add_argument(
        '--shard',
        metavar='I/N',
        help='do part I (from 0) of N; default: as torchrun says, else everything',
    )
    parser.add_argument(
        '--stride', type=int, default=8, help='segment every n-th frame of a video; default: 8'
    )
    parser.add_argument(
        '--short-side', type=int, default=256, help='contours are kept at this size; default: 256'
    )
    parser.add_argument('--points-per-side', type=int, default=32, help='prompts; default: 32')
    parser.add_argument('--points-per-batch', type=int, default=64, help='default: 64')
    parser.add_argument('--pred-iou-thresh', type=float, default=0.88, help='default: 0.88')
    parser.add_argument('--stability-score-thresh', type=float, default=0.95, help='default: 0.95')
    args = parser.parse_args()
    for name in ('stride', 'short_side', 'points_per_side', 'points_per_batch'):
        if getattr(args, name) < 1:
            parser.error(f'--{name.replace("_", "-")} {getattr(args, name)} must be at least 1')
    rank, world = int(os.environ.get('RANK', 0)), int(os.environ.get('WORLD_SIZE', 1))
    try:
        args.part, args.parts = map(int, args.shard.split('/')) if args.shard else (rank, world)
    except ValueError:
        parser.error(f'--shard {args.shard} must be I/N, as 0/8')
    if not 0 <= args.part < args.parts:
        parser.error(f'--shard {args.shard}: I must be from 0 to {args.parts - 1}')
    if args.device is None:
        local = int(os.environ.get('LOCAL_RANK', 0))
        args.device = f'cuda:{local}' if torch.cuda.is_available() else 'cpu'
    return args


def list_data(kind: str, folder: Path, ann_file: Path | None) -> list[str]:
    """Paths below the folder, sorted, each once.

    Raises:
        FileNotFoundError: if there is no such folder or list, or nothing in it.
        ValueError: if a line of the list has no path of the right kind.
    """
    extensions = tuple(EXTENSIONS[kind])
    if not folder.is_dir():
        raise FileNotFoundError(f'no folder {folder}')
    if ann_file is None:
        # as the data sets list it: links are followed, hidden files left out
        names = list_dir_or_file(folder, list_dir=False, recursive=True)
        names = [name for name in names if name.lower().endswith(extensions)]
    else:
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
    if not names:
        raise FileNotFoundError(f'no {kind} ({", ".join(extensions)}) in {ann_file or folder}')
    return sorted(set(names))


class Progress:
    """Prints how far a run is, at most every ten seconds, and how long it will take.

    Args:
        total (int): files to be written by this process.
        label (str): what is printed first.
    """

    def __init__(self, total: int, label: str) -> None:
        self.total, self.label = total, label
        self.done = self.segmented = 0
        self.work = 0.0  # files made in this run, in part or whole
        self.start = self.last = time.monotonic()

    def step(self, share: float) -> None:
        """A frame or image was segmented, this share of a file."""
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
    """As '2 d 03:04:05'."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return (f'{days} d ' if days else '') + f'{hours:02d}:{minutes:02d}:{seconds:02d}'


class Extractor:
    """Makes the files of a cache that are not there yet.

    Args:
        args (argparse.Namespace): the command line.
        made_by (dict): settings that the contours depend on, kept in every file.
        generator: of ``make_generator``.
    """

    def __init__(self, args: argparse.Namespace, made_by: dict, generator) -> None:
        self.args, self.made_by, self.generator = args, made_by, generator
        self.broken: list[str] = []

    def segment(self, image: np.ndarray) -> np.ndarray:
        """The contour of an RGB image."""
        return segment_contours(self.generator, image, self.args.short_side)

    def video(self, name: str, progress: Progress) -> None:
        """Make the contours of a video; one that cannot be read goes to the report."""
        import decord

        path = self.args.cache / (name + SUFFIX)
        if path.exists():
            return
        try:
            reader = decord.VideoReader(str(self.args.folder / name), num_threads=1)
            height, width = reader[0].shape[:2]
        except Exception as error:  # decord's errors have no common class below
            self.report(name, error)
            return
        header = dict(
            kind='videos',
            num_frames=len(reader),
            height=height,
            width=width,
            stride=self.args.stride,
            made_by=self.made_by,
        )
        frames = range(0, len(reader), self.args.stride)
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
                image = cv2.imread(str(self.args.folder / name), cv2.IMREAD_COLOR)
                if image is None:
                    self.report(name, 'no image that OpenCV can read')
                    writer.add(None)
                else:
                    writer.add(self.segment(image[..., ::-1].copy()), image.shape[:2])
                progress.step(1 / len(names))
            writer.finish()

    def report(self, name: str, error: object) -> None:
        """Note a file that cannot be read."""
        print(f'cannot read {self.args.folder / name}: {str(error)[:200]}', file=sys.stderr)
        self.broken.append(name)

    def run(self, names: list[str]) -> None:
        """Make this process's part of the cache, and write the report."""
        args = self.args
        if args.kind == 'videos':
            jobs = [(self.video, (name,)) for name in names]
        else:
            groups: dict[str, list[str]] = {}
            for name in names:
                groups.setdefault(image_file_name(name, num_files(names)), []).append(name)
            jobs = [(self.images, (args.cache / k, v)) for k, v in sorted(groups.items())]
        jobs = jobs[args.part :: args.parts]
        label = f'[{args.part}/{args.parts}] ' if args.parts > 1 else ''
        progress = Progress(len(jobs), label)
        for make, arguments in jobs:
            make(*arguments, progress)
            progress.done += 1
        progress.report()
        name = f'broken_{args.part}_of_{args.parts}.txt' if args.parts > 1 else 'broken.txt'
        report = args.cache / name
        if self.broken:
            report.write_text('\n'.join(sorted(self.broken)) + '\n')
            print(f'{label}{len(self.broken)} files could not be read; they are listed in {report}')
        else:
            report.unlink(missing_ok=True)


def num_files(names: list[str]) -> int:
    """Into how many files images are divided."""
    return -(-len(names) // IMAGES_PER_FILE)


def main() -> None:
    """Check, load SAM, make what is missing."""
    args = parse_args()
    settings = {
        name: getattr(args, name)
        for name in (
            'points_per_side',
            'points_per_batch',
            'pred_iou_thresh',
            'stability_score_thresh',
        )
    }
    try:
        names = list_data(args.kind, args.folder, args.ann_file)
        sam = load_sam(args.checkpoint, args.model_type, args.device)
        made_by = dict(
            model_type=args.model_type,
            checkpoint_sha256=file_checksum(args.checkpoint),
            short_side=args.short_side,
            **settings,
        )
        more = {}
        if args.kind == 'videos':
            made_by['stride'] = args.stride
        else:
            more = dict(num_files=num_files(names), num_images=len(names))
        write_manifest(args.cache, args.kind, made_by, **more)
        Extractor(args, made_by, make_generator(sam, **settings)).run(names)
    except OSError as error:
        is_input = isinstance(error, FileNotFoundError) or error.errno is None
        sys.exit(str(error) if is_input else no_space(args.cache, error))
    except (ImportError, ValueError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit('stopped; the same command goes on from here')


if __name__ == '__main__':
    main()
