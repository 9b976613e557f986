r"""Make the codes of the videos of a data set with a tokenizer, for training to read.

Examples::

    python tools/dataset_converters/extract_codes.py data/kinetics400/videos_train \
        data/kinetics400/codes_128 --tokenizer DalleTokenizer --checkpoint encoder.pkl
    torchrun --nproc-per-node 8 tools/dataset_converters/extract_codes.py data/ucf101/videos \
        data/ucf101/codes_finetuning --tokenizer DalleTokenizer --checkpoint encoder.pkl \
        --size 256 --finetuning

The run can be stopped at any point: the same command continues it. bimm_mm/codes/cache.py says what
the files look like and how large they are.
"""

import argparse
import os
import sys
from pathlib import Path

import torch
from mmengine.registry import MODELS

import bimm_mm  # noqa: F401  registers the tokenizers
from bimm_mm.codes.cache import View, finetuning_views, write_manifest
from bimm_mm.codes.extraction import CodeExtractor
from bimm_mm.contours.extraction import list_data
from bimm_mm.models.tokenizers.files import file_checksum
from bimm_mm.utils.progress import Progress

TOKENIZERS = ('DalleTokenizer', 'VqganTokenizer', 'DiffusersTokenizer', 'PatchTokenizer')


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('folder', type=Path, help='the folder of the videos, as configs have it')
    parser.add_argument('cache', type=Path, help='folder to write to')
    parser.add_argument(
        '--ann-file', type=Path, help='take the paths of this list, relative to the folder'
    )
    parser.add_argument('--tokenizer', choices=TOKENIZERS, default='DalleTokenizer')
    parser.add_argument('--checkpoint', required=True, help="the tokenizer's weights")
    parser.add_argument(
        '--fps', type=float, default=2, help='frames per second; 0 for all; default: 2'
    )
    parser.add_argument('--size', type=int, default=128, help='side in pixels; default: 128')
    parser.add_argument(
        '--finetuning',
        action='store_true',
        help='twelve views instead of one: 2 sizes x 3 crops x 2 flips',
    )
    parser.add_argument('--no-flip', action='store_true', help='with --finetuning: six views')
    parser.add_argument('--device', help='default: a GPU where there is one')
    parser.add_argument(
        '--shard',
        metavar='I/N',
        help='do part I (from 0) of N; default: as torchrun says, else everything',
    )
    args = parser.parse_args()
    rank, world = int(os.environ.get('RANK', 0)), int(os.environ.get('WORLD_SIZE', 1))
    try:
        args.part, args.parts = map(int, args.shard.split('/')) if args.shard else (rank, world)
    except ValueError:
        parser.error(f'--shard {args.shard} must be I/N, as 0/8')
    if not 0 <= args.part < args.parts:
        parser.error(f'--shard {args.shard}: I must be from 0 to {args.parts - 1}')
    if args.fps < 0:
        parser.error(f'--fps {args.fps} must be 0 or more')
    if args.device is None:
        local = int(os.environ.get('LOCAL_RANK', 0))
        args.device = f'cuda:{local}' if torch.cuda.is_available() else 'cpu'
    return args


def extract(args: argparse.Namespace) -> list[str]:
    """Make this process's part of the cache; the videos that could not be read."""
    names = list_data('videos', args.folder, args.ann_file)[args.part :: args.parts]
    tokenizer = MODELS.build(
        # frames are not normalized here
        dict(type=args.tokenizer, checkpoint=args.checkpoint, mean=[0] * 3, std=[1] * 3)
    )
    tokenizer.input_size((args.size, args.size))  # a size that does not fit shows at once
    views = [View(args.size, 'center', args.size)]
    if args.finetuning:
        views = finetuning_views(args.size, not args.no_flip)
    made_by = dict(
        type=args.tokenizer,
        sha256=file_checksum(args.checkpoint),
        num_codes=tokenizer.num_codes,
        factor=tokenizer.factor,
    )
    cache = write_manifest(args.cache, made_by, args.fps or None, views)
    extractor = CodeExtractor(args.folder, cache, tokenizer.to(args.device), args.device)
    label = f'[{args.part}/{args.parts}] ' if args.parts > 1 else ''
    frames = 0
    with Progress(f'{label}files', len(names)) as progress:
        for _, count in extractor.run(names):
            frames += count
            progress.advance(note=f'{frames} frames encoded')
    return extractor.broken


def main() -> None:
    """Make the cache, and write down what is broken."""
    args = parse_args()
    try:
        broken = extract(args)
    except (ImportError, OSError, ValueError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit('stopped; the same command continues')
    name = f'broken_{args.part}_of_{args.parts}.txt' if args.parts > 1 else 'broken.txt'
    report = args.cache / name
    if broken:
        report.write_text('\n'.join(sorted(broken)) + '\n')
        print(f'{len(broken)} videos could not be read; they are listed in {report}')
    else:
        report.unlink(missing_ok=True)


if __name__ == '__main__':
    main()
