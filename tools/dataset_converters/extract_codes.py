r"""Make the codes of the videos or images of a data set with a tokenizer, for training to read.

Examples::

    python tools/dataset_converters/extract_codes.py data/kinetics400/videos_train \
        data/kinetics400/codes_128 --tokenizer DalleTokenizer --checkpoint encoder.pkl
    torchrun --nproc-per-node 8 tools/dataset_converters/extract_codes.py data/ucf101/videos \
        data/ucf101/codes_finetuning --tokenizer DalleTokenizer --checkpoint encoder.pkl \
        --size 256 --finetuning
    python tools/dataset_converters/extract_codes.py data/kinetics400/videos_train \
        data/kinetics400/codes_whole --tokenizer VqganTokenizer --checkpoint gumbel_f8.pth \
        --whole --size 256 --pixels-per-code 16 --fps 0

The first is for VIMPAC's pretraining, the second for its finetuning. The third is for random crops
of pixels, as MAM2 and BEVT have them: codes of whole frames, of which crops on the grid cut theirs.

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
from bimm_mm.codes.cache import WHOLE, View, finetuning_views, write_manifest
from bimm_mm.codes.extraction import CodeExtractor
from bimm_mm.contours.extraction import list_data
from bimm_mm.models.tokenizers.base import BaseTokenizer
from bimm_mm.models.tokenizers.files import file_checksum
from bimm_mm.utils.progress import Progress

TOKENIZERS = ('DalleTokenizer', 'VqganTokenizer', 'DiffusersTokenizer', 'PatchTokenizer')


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('folder', type=Path, help='the folder of the files, as configs have it')
    parser.add_argument('cache', type=Path, help='folder to write to')
    parser.add_argument('--kind', choices=('videos', 'images'), default='videos')
    parser.add_argument(
        '--ann-file', type=Path, help='take the paths of this list, relative to the folder'
    )
    parser.add_argument('--tokenizer', choices=TOKENIZERS, default='DalleTokenizer')
    parser.add_argument('--checkpoint', required=True, help="the tokenizer's weights")
    parser.add_argument(
        '--fps', type=float, default=2, help='frames per second; 0 for all; default: 2'
    )
    parser.add_argument(
        '--size', type=int, default=128, help='(short) side in pixels; default: 128'
    )
    parser.add_argument(
        '--whole', action='store_true', help='whole frames, not the square in their center'
    )
    parser.add_argument('--flipped', action='store_true', help='with --whole: flipped ones as well')
    parser.add_argument(
        '--pixels-per-code',
        type=int,
        help="with --whole: side of the encoder's patches; default: as the tokenizer has it",
    )
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
    if args.whole and args.finetuning:
        parser.error('--whole and --finetuning exclude each other: they are for different crops')
    if (args.flipped or args.pixels_per_code) and not args.whole:
        parser.error('--flipped and --pixels-per-code go with --whole')
    if args.device is None:
        local = int(os.environ.get('LOCAL_RANK', 0))
        args.device = f'cuda:{local}' if torch.cuda.is_available() else 'cpu'
    return args


def list_views(args: argparse.Namespace) -> list[View]:
    """The views that the arguments ask for."""
    if args.finetuning:
        return finetuning_views(args.size, not args.no_flip)
    if not args.whole:
        return [View(args.size, 'center', args.size)]
    flips = (False, True) if args.flipped else (False,)
    return [View(args.size, WHOLE, args.size, flip, args.pixels_per_code) for flip in flips]


def check_size(tokenizer: BaseTokenizer, view: View) -> None:
    """Let a size that does not fit the tokenizer show at once."""
    size = (view.size, view.size)
    step = view.pixels_per_code
    tokenizer.input_size(size, None if step is None else (view.size // step,) * 2)


def extract(args: argparse.Namespace) -> list[str]:
    """Make this process's part of the cache; the files that could not be read."""
    names = list_data(args.kind, args.folder, args.ann_file)[args.part :: args.parts]
    tokenizer = MODELS.build(
        # frames are not normalized here
        dict(type=args.tokenizer, checkpoint=args.checkpoint, mean=[0] * 3, std=[1] * 3)
    )
    views = list_views(args)
    check_size(tokenizer, views[0])
    made_by = dict(
        type=args.tokenizer,
        sha256=file_checksum(args.checkpoint),
        num_codes=tokenizer.num_codes,
        factor=tokenizer.factor,
    )
    fps = None if args.kind == 'images' else args.fps or None
    cache = write_manifest(args.cache, made_by, fps, views)
    device = args.device
    extractor = CodeExtractor(args.folder, cache, tokenizer.to(device), device, args.kind)
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
        print(f'{len(broken)} {args.kind} could not be read; they are listed in {report}')
    else:
        report.unlink(missing_ok=True)


if __name__ == '__main__':
    main()
