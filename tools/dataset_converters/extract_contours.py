r"""Make the contours of a data set with Segment Anything, for training to read (docs/contours.md).

Examples::

    python tools/dataset_converters/extract_contours.py videos data/kinetics400/videos_train \
        data/kinetics400/contours --model-type vit_h --checkpoint sam_vit_h_4b8939.pth
    torchrun --nproc-per-node 8 tools/dataset_converters/extract_contours.py images \
        data/imagenet/train data/imagenet/contours --checkpoint sam_vit_h_4b8939.pth

The run can be stopped at any point: the same command continues it. With --estimate, nothing is
written: the price of the whole is estimated from ten frames.
"""

import argparse
import os
import sys
from pathlib import Path

import torch

from bimm_mm.contours.boundaries import WHAT
from bimm_mm.contours.estimate import estimate, sample_images, sample_videos
from bimm_mm.contours.extraction import Extractor, count_files, list_data
from bimm_mm.contours.loading import DTYPES, GENERATORS, load_generator
from bimm_mm.contours.writer import no_space, write_manifest


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_data_options(parser)
    add_model_options(parser)
    args = parser.parse_args()
    for name in ('stride', 'short_side', 'points_per_side', 'points_per_batch', 'images_per_batch'):
        value = getattr(args, name)
        if value is not None and value < 1:
            parser.error(f'--{name.replace("_", "-")} {value} must be at least 1')
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
    if args.images_per_batch is None:
        args.images_per_batch = 1 if args.device == 'cpu' else 4
    return args


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Add what is segmented, and what is kept."""
    parser.add_argument('kind', choices=('videos', 'images'))
    parser.add_argument('folder', type=Path, help='the folder of the data, as the configs have it')
    parser.add_argument('cache', type=Path, help='folder to write to')
    parser.add_argument('--ann-file', type=Path, help='take the paths of this list')
    parser.add_argument(
        '--shard',
        metavar='I/N',
        help='do part I (from 0) of N; default: as torchrun says, else everything',
    )
    parser.add_argument(
        '--stride', type=int, default=8, help='segment every n-th frame of a video; default: 8'
    )
    parser.add_argument(
        '--reuse-below',
        type=float,
        default=0.0,
        metavar='LEVELS',
        help='a frame that nowhere differs from the last segmented one by more (0 to 255) takes '
        'its contour; default: 0, none does',
    )
    parser.add_argument(
        '--short-side', type=int, default=256, help='contours are kept at this size; default: 256'
    )
    parser.add_argument(
        '--what', choices=WHAT, default='outline', help='outline of the masks, or their numbers'
    )
    parser.add_argument(
        '--estimate',
        nargs='?',
        type=int,
        const=10,
        metavar='FRAMES',
        help='write nothing, but what all would cost, from some frames; default: 10',
    )


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add the model, its settings, and how it is computed."""
    parser.add_argument('--checkpoint', required=True, help='weights; of sam2 a folder')
    parser.add_argument(
        '--model-type',
        default='vit_h',
        help='vit_b, vit_l or vit_h, vit_t (MobileSAM) or sam2 (SAM 2.1); default: vit_h',
    )
    parser.add_argument('--device', help='default: a GPU where there is one')
    parser.add_argument('--points-per-side', type=int, default=32, help='prompts; default: 32')
    parser.add_argument('--pred-iou-thresh', type=float, default=0.88, help='default: 0.88')
    parser.add_argument('--stability-score-thresh', type=float, default=0.95, help='default: 0.95')
    parser.add_argument(
        '--generator', choices=GENERATORS, default='batched', help='default: batched'
    )
    parser.add_argument('--dtype', choices=DTYPES, default='float32', help='default: float32')
    parser.add_argument('--compile', action='store_true', help='compile the image encoder')
    parser.add_argument(
        '--images-per-batch', type=int, help='to encode at a time; default: 4, on a CPU 1'
    )
    parser.add_argument(
        '--memory',
        type=float,
        metavar='GB',
        help='for prompts; default: half of a GPU, on a CPU what its cache serves best',
    )
    parser.add_argument('--points-per-batch', type=int, help='prompts at a time, not --memory')


def settings_of(args: argparse.Namespace) -> dict:
    """Collect what all generators have in common."""
    names = ('points_per_side', 'pred_iou_thresh', 'stability_score_thresh', 'short_side', 'what')
    return {name: getattr(args, name) for name in names}


def load(args: argparse.Namespace, **changes) -> tuple:
    """Build a generator as the command line has it, but for some changes."""
    arguments = dict(
        generator=args.generator,
        dtype=args.dtype,
        compile_encoder=args.compile,
        memory=args.memory,
        points_per_batch=args.points_per_batch,
        **settings_of(args),
    )
    return load_generator(args.checkpoint, args.model_type, args.device, **(arguments | changes))


def print_estimate(args: argparse.Namespace, names: list[str]) -> None:
    """Measure some frames, and print what the whole costs."""
    is_video = args.kind == 'videos'
    if is_video:
        sample = sample_videos(args.folder, names, args.estimate, args.stride)
    else:
        sample = sample_images(args.folder, names, args.estimate)
    half = max(1, args.points_per_side // 2)
    variants = {f'--points-per-side {half}': load(args, points_per_side=half)[0]}
    if args.generator == 'batched' and args.dtype == 'float32':
        variants['--dtype bfloat16'] = load(args, dtype='bfloat16')[0]
    if args.generator == 'original':
        variants['--generator batched'] = load(args, generator='batched')[0]
    stride = args.stride if is_video else None
    print(estimate(sample, load(args)[0], variants, args.images_per_batch, stride))


def extract(args: argparse.Namespace, names: list[str]) -> None:
    """Make what is missing."""
    segment, made_by = load(args)
    more = {}
    if args.kind == 'videos':
        made_by['stride'] = args.stride
        if args.reuse_below:
            made_by['reuse_below'] = args.reuse_below
    else:
        more = dict(num_files=count_files(names), num_images=len(names))
    write_manifest(args.cache, args.kind, made_by, **more)
    Extractor(
        kind=args.kind,
        folder=args.folder,
        cache=args.cache,
        segment=segment,
        made_by=made_by,
        stride=args.stride,
        images_per_batch=args.images_per_batch,
        reuse_below=args.reuse_below,
        part=args.part,
        parts=args.parts,
    ).run(names)


def main() -> None:
    """Check, load the model, make what is missing."""
    args = parse_args()
    try:
        names = list_data(args.kind, args.folder, args.ann_file)
        (print_estimate if args.estimate else extract)(args, names)
    except OSError as error:
        is_input = isinstance(error, FileNotFoundError) or error.errno is None
        sys.exit(str(error) if is_input else no_space(args.cache, error))
    except (ImportError, ValueError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit('stopped; the same command continues from here')


if __name__ == '__main__':
    main()
