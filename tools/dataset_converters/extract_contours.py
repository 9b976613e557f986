r"""Make the contours of a data set with Segment Anything, for training to read (docs/contours.md).

Examples::

    python tools/dataset_converters/extract_contours.py videos data/kinetics400/videos_train \
        data/kinetics400/contours --model-type vit_h --checkpoint sam_vit_h_4b8939.pth
    torchrun --nproc-per-node 8 tools/dataset_converters/extract_contours.py images \
        data/imagenet/train data/imagenet/contours --checkpoint sam_vit_h_4b8939.pth

The run can be stopped at any point: the same command continues it.
"""

import argparse
import os
import sys
from functools import partial
from pathlib import Path

import torch

from bimm_mm.contours.extraction import Extractor, count_files, list_data
from bimm_mm.contours.sam import file_checksum, load_sam, make_generator, segment_contours
from bimm_mm.contours.writer import no_space, write_manifest


def parse_args() -> argparse.Namespace:
    """Read the command line."""
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
            more = dict(num_files=count_files(names), num_images=len(names))
        write_manifest(args.cache, args.kind, made_by, **more)
        generator = make_generator(sam, **settings)
        segment = partial(segment_contours, generator, short_side=args.short_side)
        Extractor(
            kind=args.kind,
            folder=args.folder,
            cache=args.cache,
            segment=segment,
            made_by=made_by,
            stride=args.stride,
            part=args.part,
            parts=args.parts,
        ).run(names)
    except OSError as error:
        is_input = isinstance(error, FileNotFoundError) or error.errno is None
        sys.exit(str(error) if is_input else no_space(args.cache, error))
    except (ImportError, ValueError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit('stopped; the same command continues from here')


if __name__ == '__main__':
    main()
