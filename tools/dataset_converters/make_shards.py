"""Pack videos into tar shards in WebDataset's layout, with an index for random access.

Example::

    python tools/dataset_converters/make_shards.py data/kinetics400/videos_train \
        data/kinetics400_shards --ann-file data/kinetics400/train.txt

Training then takes data_root=data/kinetics400_shards and ann_file=index.txt, and draws the same
clips as from the files. The run can be stopped at any point: the same command goes on where it
stopped.
"""

import argparse
import sys
from pathlib import Path

from bimm_mm.datasets.shards import INDEX, ShardPacker
from bimm_mm.utils.files import check_writable, explain, remove_unfinished
from bimm_mm.utils.lists import EntryList, list_of, read_list
from bimm_mm.utils.media import VIDEOS, list_media
from bimm_mm.utils.progress import Progress


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('folder', type=Path, help='folder of videos')
    parser.add_argument('output', type=Path, help='folder of the shards')
    parser.add_argument('--ann-file', help='list of the videos; default: all in the folder')
    parser.add_argument('--delimiter', help='what ends a path in the list')
    parser.add_argument(
        '--shard-size', type=float, default=1000.0, help='MB of a shard; default: 1000'
    )
    parser.add_argument(
        '--seed', type=int, default=0, help='of the order of the videos in the shards; default: 0'
    )
    parser.add_argument(
        '--in-order', action='store_true', help='the order of the list instead of a random one'
    )
    parser.add_argument(
        '--part', default='0/1', metavar='I/N', help='do part I (from 0) of N, as one of N machines'
    )
    args = parser.parse_args(argv)
    if not args.shard_size > 0:
        parser.error(f'--shard-size {args.shard_size:g} must be above 0')
    try:
        args.first, args.step = map(int, args.part.split('/'))
    except ValueError:
        parser.error(f'--part {args.part} must be I/N, as 0/8')
    if not 0 <= args.first < args.step:
        parser.error(f'--part {args.part}: I must be from 0 to {args.step - 1}')
    return args


def entries_of(args: argparse.Namespace) -> EntryList:
    """The videos.

    Raises:
        OSError, ValueError: There are none, or the list cannot be read.
    """
    if args.ann_file:
        return read_list(args.ann_file, args.delimiter)
    return list_of(list_media(args.folder, VIDEOS), str(args.folder))


def main(argv: list[str] | None = None) -> None:
    """Pack what is not there yet, and write the index."""
    args = parse_args(argv)
    try:
        entries = entries_of(args)
        args.output.mkdir(parents=True, exist_ok=True)
        check_writable(args.output)
        if args.step == 1:
            remove_unfinished(args.output)
        seed = None if args.in_order else args.seed
        size = int(args.shard_size * 1e6)
        packer = ShardPacker(entries, args.folder, args.output, size, seed)
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    shards = range(args.first, len(packer.plan), args.step)
    left = [shard for shard in shards if not packer.is_done(shard)]
    print(f'{len(entries)} videos, {len(shards) - len(left)} of {len(shards)} shards done before')
    try:
        if left:
            with Progress('packed', sum(len(packer.plan[shard]) for shard in left)) as progress:
                for shard in left:
                    for _ in packer.pack(shard):
                        progress.advance()
        if packer.write_index():
            print(f'{args.output / INDEX}: {len(packer.plan)} shards')
        else:
            print('the index is written when all parts are done')
    except OSError as error:
        sys.exit(str(explain(error, error.filename or args.output)))
    except KeyboardInterrupt:
        sys.exit('stopped; the same command goes on from here')


if __name__ == '__main__':
    main()
