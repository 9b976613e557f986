r"""Rewrite videos for training: upright, of a short side of 256 pixels, only key frames.

Example::

    python tools/dataset_converters/resize_videos.py data/kinetics400/videos_train \
        data/kinetics400_256/videos_train --workers 16

Names stay as they are, so that lists of the data set go on to fit; what is in the files is MP4,
whatever their ending. The run can be stopped at any point: the same command goes on where it
stopped. Videos that fail are listed in failed.txt of the new folder, and tried again by the next
run.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bimm_mm import video
from bimm_mm.utils.files import UNFINISHED, check_writable, explain, finish, write_text
from bimm_mm.utils.media import VIDEOS, list_media
from bimm_mm.utils.progress import Progress

PROGRAM = (str(Path(video.__file__).with_name('__main__.py')), 'reencode')
SETTINGS = 'resize_videos.json'


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('folder', type=Path, help='folder of videos')
    parser.add_argument('output', type=Path, help='new folder')
    parser.add_argument(
        '--short-side', type=int, default=256, help='pixels; smaller videos keep their size'
    )
    parser.add_argument(
        '--gop', type=int, default=1, help='frames from one key frame to the next; default: 1'
    )
    parser.add_argument(
        '--codec',
        choices=('h264', 'mjpeg'),
        default='h264',
        help='mjpeg is larger and little faster to read; default: h264',
    )
    parser.add_argument(
        '--crf',
        type=int,
        default=20,
        help='0 (lossless) to 51 (worst) of x264, 2 (best) to 31 of mjpeg; default: 20',
    )
    parser.add_argument('--preset', default='medium', help='speed, of x264; default: medium')
    parser.add_argument(
        '--workers', type=int, default=os.cpu_count(), help='processes; default: one per core'
    )
    parser.add_argument(
        '--timeout', type=float, default=3600.0, help='seconds that one video may take'
    )
    parser.add_argument('--shard', default='0/1', metavar='I/N', help='do part I (from 0) of N')
    args = parser.parse_args(argv)
    for name in ('short_side', 'gop', 'workers', 'timeout'):
        if getattr(args, name) < 1:
            parser.error(f'--{name.replace("_", "-")} {getattr(args, name)} must be at least 1')
    if not 0 <= args.crf <= 51:
        parser.error(f'--crf {args.crf} must be from 0 to 51')
    try:
        args.part, args.parts = map(int, args.shard.split('/'))
    except ValueError:
        parser.error(f'--shard {args.shard} must be I/N, as 0/8')
    if not 0 <= args.part < args.parts:
        parser.error(f'--shard {args.shard}: I must be from 0 to {args.parts - 1}')
    return args


def settings_of(args: argparse.Namespace) -> dict:
    """What the new videos depend on."""
    return {name: getattr(args, name) for name in ('short_side', 'gop', 'crf', 'preset', 'codec')}


class Conversion:
    """A video that is being rewritten by a process of its own, under another name."""

    def __init__(self, name: str, args: argparse.Namespace) -> None:
        self.name, self.timeout = name, args.timeout
        self.target = args.output / name
        self.temporary = self.target.with_name(f'.{self.target.name}{UNFINISHED}')
        self.target.parent.mkdir(parents=True, exist_ok=True)
        paths = str(args.folder / name), str(self.temporary)
        self.start = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, *PROGRAM, *paths, json.dumps(settings_of(args)), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def result(self) -> str | None:
        """None while it runs, then '' or the reason why it failed."""
        code = self.process.poll()
        late = time.monotonic() - self.start > self.timeout
        if code is None and not late:
            return None
        if code == 0:
            finish(self.temporary, self.target)
            return ''
        self.end()
        if code is None:
            return f'took longer than {self.timeout:g} s'
        if code < 0:
            return f'the process crashed ({signal.Signals(-code).name})'
        return self.process.stderr.read().strip().rpartition('\n')[2]

    def end(self) -> None:
        """Stop it, and remove what it has written."""
        self.process.kill()
        self.process.wait()
        self.temporary.unlink(missing_ok=True)


def convert_all(names: list[str], args: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Convert many videos, each in a process of its own: one that crashes ends no other.

    Yields:
        (str, str): name and reason of the failure, '' for none, in the order of completion.

    Raises:
        OSError: The disk is full, or lost.
    """
    pending, running = list(reversed(names)), []
    try:
        while pending or running:
            while pending and len(running) < args.workers:
                running.append(Conversion(pending.pop(), args))
            time.sleep(0.02)
            for conversion in list(running):
                result = conversion.result()
                if result is not None:
                    running.remove(conversion)
                    yield conversion.name, result
    finally:
        for conversion in running:
            conversion.end()


def prepare(args: argparse.Namespace) -> list[str]:
    """Check what can be checked beforehand; the names of the videos of this shard.

    Raises:
        ValueError: A folder is missing, or does not fit to the other or to the settings.
        ImportError: There is no PyAV, or none with x264.
        WriteError: The new folder cannot be written to.
    """
    try:
        import av
    except ImportError as error:
        raise ImportError('videos are encoded by PyAV, which is missing: pip install av') from error
    if 'libx264' not in av.codecs_available:
        raise ImportError("this PyAV was built without libx264; PyPI's wheels have it")
    if not args.folder.is_dir():
        raise ValueError(f'folder={str(args.folder)!r} is no folder')
    if args.output.resolve().is_relative_to(args.folder.resolve()):
        raise ValueError(f'output={str(args.output)!r} must not lie in the folder of the videos')
    names = list_media(args.folder, VIDEOS)
    check_writable(args.output)
    settings = settings_of(args)
    path = args.output / SETTINGS
    if path.is_file() and json.loads(path.read_text()) != settings:
        raise ValueError(
            f'{str(args.output)!r} was made with other settings: {path.read_text().strip()}. Give '
            'the same, or another folder'
        )
    write_text(path, json.dumps(settings) + '\n')
    return names[args.part :: args.parts]


def main(argv: list[str] | None = None) -> int:
    """Convert what is not there yet; the exit code is 1 where videos failed."""
    args = parse_args(argv)
    try:
        names = prepare(args)
    except (ValueError, ImportError, OSError) as error:
        sys.exit(str(error))
    missing = [name for name in names if not (args.output / name).is_file()]
    print(f'{len(names)} videos, {len(names) - len(missing)} of them done before', flush=True)
    try:
        return convert_and_report(missing, args)
    except OSError as error:
        sys.exit(str(explain(error, error.filename or args.output)))
    except KeyboardInterrupt:
        sys.exit('stopped; the same command goes on from here')


def convert_and_report(missing: list[str], args: argparse.Namespace) -> int:
    """Convert, print how far it is, and list failures; the exit code."""
    failed, sizes = [], [0, 0]
    with Progress('rewritten', len(missing), every=10) as progress:
        for name, reason in convert_all(missing, args):
            if reason:
                failed.append(f'{name}: {reason}')
                print(f'failed: {failed[-1]}', file=sys.stderr, flush=True)
            else:
                for i, folder in enumerate((args.folder, args.output)):
                    sizes[i] += (folder / name).stat().st_size
            progress.advance()
    suffix = '' if args.parts == 1 else f'_{args.part}_of_{args.parts}'
    report = args.output / f'failed{suffix}.txt'
    report.unlink(missing_ok=True)
    if failed:
        write_text(report, '\n'.join(failed) + '\n')
        print(f'{len(failed)} videos failed, see {report}', file=sys.stderr)
    if sizes[0]:
        print(f'{sizes[0] / 1e6:.1f} MB became {sizes[1] / 1e6:.1f} MB')
    return int(bool(failed))


if __name__ == '__main__':
    sys.exit(main())
