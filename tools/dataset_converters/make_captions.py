r"""Make the file of captions beside the videos of a data set.

By BLIP-2, of a few frames of each video; or from labels and templates; or from the captions that
Something-Something V2 brings along::

    python tools/dataset_converters/make_captions.py blip2 data/kinetics400/videos_train \
        data/kinetics400/captions.jsonl --checkpoint weights/blip2-opt-2.7b
    python tools/dataset_converters/make_captions.py labels data/ucf101/captions.jsonl \
        --ann-file data/ucf101/train.txt --classes data/ucf101/classes.txt \
        --templates "a video of {}" "someone is {}"
    python tools/dataset_converters/make_captions.py ssv2 data/sthv2/captions.jsonl \
        --labels data/sthv2/annotations/train.json

With BLIP-2 a run can be stopped at any point: the same command continues it. ``torchrun`` or
``--shard I/N`` divides it; each part writes ``captions.I_of_N.jsonl``, and
``caption_file='captions.*_of_N.jsonl'`` reads all of them. ``--estimate`` says what it will cost.
"""

import argparse
import os
import sys
from pathlib import Path

import torch

from bimm_mm.captions.blip2 import Blip2Captioner, CaptionWriter
from bimm_mm.captions.file import format_line
from bimm_mm.captions.labels import TEMPLATES, captions_from_classes, captions_from_ssv2
from bimm_mm.contours.estimate import spread
from bimm_mm.contours.extraction import list_data
from bimm_mm.contours.progress import duration
from bimm_mm.utils.files import write_text
from bimm_mm.utils.progress import Progress


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ways = parser.add_subparsers(dest='way', required=True)
    blip2 = ways.add_parser('blip2', help='by BLIP-2, of a few frames of each video')
    blip2.add_argument('folder', type=Path, help='the folder of the videos, as configs have it')
    blip2.add_argument('out', type=Path, help='file to write')
    blip2.add_argument('--checkpoint', required=True, help='folder of a BLIP-2 of transformers')
    blip2.add_argument('--ann-file', type=Path, help='take the paths of this list')
    blip2.add_argument('--frames', type=int, default=3, help='captions per video; default: 3')
    blip2.add_argument('--batch', type=int, default=8, help='videos at a time; default: 8')
    blip2.add_argument('--beams', type=int, default=1, help='of the search; default: 1')
    blip2.add_argument('--max-tokens', type=int, default=30, help='of a caption; default: 30')
    blip2.add_argument('--device', help='default: a GPU where there is one')
    blip2.add_argument(
        '--shard',
        metavar='I/N',
        help='do part I (from 0) of N; default: as torchrun says, else everything',
    )
    blip2.add_argument('--estimate', type=int, metavar='N', help='time N videos and write nothing')
    labels = ways.add_parser('labels', help='from labels and templates')
    labels.add_argument('out', type=Path, help='file to write')
    labels.add_argument('--ann-file', type=Path, required=True, help='`path label` per line')
    labels.add_argument('--classes', type=Path, required=True, help='a name per line')
    labels.add_argument('--templates', nargs='+', default=TEMPLATES, help='with {} for the name')
    ssv2 = ways.add_parser('ssv2', help="Something-Something V2's own")
    ssv2.add_argument('out', type=Path, help='file to write')
    ssv2.add_argument('--labels', type=Path, required=True, help="the data set's train.json")
    ssv2.add_argument('--ending', default='.webm', help='of the videos; default: .webm')
    args = parser.parse_args()
    if args.way == 'blip2':
        check_blip2(args, blip2)
    return args


def check_blip2(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Fill in the part of the work and the device."""
    rank, world = int(os.environ.get('RANK', 0)), int(os.environ.get('WORLD_SIZE', 1))
    try:
        args.part, args.parts = map(int, args.shard.split('/')) if args.shard else (rank, world)
    except ValueError:
        parser.error(f'--shard {args.shard} must be I/N, as 0/8')
    if not 0 <= args.part < args.parts:
        parser.error(f'--shard {args.shard}: I must be from 0 to {args.parts - 1}')
    for name in ('frames', 'batch', 'beams', 'max_tokens', 'estimate'):
        value = getattr(args, name)
        if value is not None and value < 1:
            parser.error(f'--{name.replace("_", "-")} {value} must be at least 1')
    if args.device is None:
        local = int(os.environ.get('LOCAL_RANK', 0))
        args.device = f'cuda:{local}' if torch.cuda.is_available() else 'cpu'
    if args.parts > 1:
        args.out = args.out.with_suffix(f'.{args.part}_of_{args.parts}{args.out.suffix}')


def by_blip2(args: argparse.Namespace) -> None:
    """Describe the videos of this process's part."""
    names = list_data('videos', args.folder, args.ann_file)
    describe = Blip2Captioner(args.checkpoint, args.device, args.max_tokens, args.beams)
    writer = CaptionWriter(args.folder, args.out, describe, args.frames, args.batch)
    if args.estimate:
        seconds = writer.estimate(spread(names, args.estimate))
        total = [duration(seconds * len(names) / devices) for devices in (1, 8, 64)]
        print(
            f'{seconds:.2f} s for a video of {args.frames} frames on {args.device}; {len(names):,} '
            f'videos: {total[0]} on 1 device, {total[1]} on 8, {total[2]} on 64'
        )
        return
    names = names[args.part :: args.parts]
    label = f'[{args.part}/{args.parts}] ' if args.parts > 1 else ''
    with Progress(f'{label}videos', len(names)) as progress:
        for count in writer.run(names):
            progress.advance(count)
    print(f'{args.out}: captions of {len(names) - len(writer.broken)} videos')
    report = args.out.with_suffix('.broken.txt')
    if writer.broken:
        write_text(report, '\n'.join(sorted(writer.broken)) + '\n')
        print(f'{len(writer.broken)} videos could not be read; they are listed in {report}')
    else:
        report.unlink(missing_ok=True)


def from_labels(args: argparse.Namespace) -> None:
    """Write the file at once."""
    if args.way == 'ssv2':
        captions = captions_from_ssv2(args.labels, args.ending)
    else:
        classes = args.classes.read_text().splitlines()
        captions = captions_from_classes(args.ann_file, classes, args.templates)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_text(args.out, ''.join(format_line(*item) for item in captions.items()))
    print(f'{args.out}: captions of {len(captions)} videos')


def main() -> None:
    """Make the file."""
    args = parse_args()
    try:
        by_blip2(args) if args.way == 'blip2' else from_labels(args)
    except (ImportError, OSError, ValueError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit('stopped; the same command continues')


if __name__ == '__main__':
    main()
