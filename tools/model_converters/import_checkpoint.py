"""Convert a checkpoint of another library into one of this toolkit.

SRC is a file, or a folder with model.safetensors and config.json. What it is is told by its keys.
A pretraining checkpoint is converted with its decoder, where there is one like it here; the config
that it fits is printed, or written by --config-out, ready to be trained.
"""

import argparse
import pprint
import sys
from collections import defaultdict
from pathlib import Path

from bimm_mm.config.paths import CONFIGS
from bimm_mm.models.conversion import KINDS, Imported, Settings, import_checkpoint
from bimm_mm.models.conversion.config_out import config_text, sizes_of
from bimm_mm.utils.commands import command, quoted
from bimm_mm.utils.files import write_text

SHOWN = 8  # keys of each reason


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='kinds:\n  '
        + '\n  '.join(f'{kind}: {layout.source}' for kind, layout in KINDS.items()),
    )
    parser.add_argument('source', metavar='SRC', help='file or folder')
    parser.add_argument('out', metavar='OUT', help='file to write')
    parser.add_argument('--kind', choices=KINDS, help='default: found by the keys')
    parser.add_argument('--num-frames', type=int, help='of a clip; default: 16')
    parser.add_argument(
        '--img-size',
        type=int,
        nargs='+',
        help='one number, or height and width; default: a square that fits, or 224',
    )
    parser.add_argument('--num-heads', type=int, help='default: that of the ViT of this width')
    parser.add_argument('--decoder-num-heads', type=int, help='likewise')
    parser.add_argument(
        '--config-out',
        type=Path,
        metavar='FILE.py',
        help='write a config that goes on with its pretraining, or finetunes an encoder alone',
    )
    args = parser.parse_args()
    size = args.img_size
    if size is not None and len(size) > 2:
        parser.error(f'--img-size {" ".join(map(str, size))}: must be one or two numbers')
    settings = Settings(
        num_frames=args.num_frames,
        img_size=None if size is None else (size[0], size[-1]),
        num_heads=args.num_heads,
        decoder_num_heads=args.decoder_num_heads,
    )
    try:
        result = import_checkpoint(args.source, args.out, args.kind, settings)
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    report(result, args.out)
    if args.config_out is not None:
        try:
            text = config_text(result, args.out, CONFIGS)
            write_text(args.config_out, text)
        except (OSError, ValueError) as error:
            sys.exit(str(error))
        sizes = sizes_of(result)
        variables = f' --cfg-options data_root=VIDEOS {sizes}' if sizes else ''
        tool = command('train', 'train.py')
        print(f'{args.config_out}: a config that starts from it; to train it:')
        print(f'  {tool} {quoted(args.config_out)}{variables}')
    else:
        name = 'model' if result.decoder else 'backbone'
        print(f'the config it fits (--config-out FILE.py writes one):\n{name} = ', end='')
        print(pprint.pformat(result.model(), sort_dicts=False))


def report(result: Imported, out: str) -> None:
    """Say what was written, what was left out, and how it is used."""
    what = 'encoder' if result.decoder is None else 'encoder and decoder'
    print(f'{out}: {what} of the {result.branch} branch, {len(result.state)} tensors')
    print(f'from {KINDS[result.kind].source} (--kind {result.kind})')
    reasons = defaultdict(list)
    for key, reason in result.dropped.items():
        reasons[reason].append(key)
    if not reasons:
        print('nothing was left out')
    for reason, keys in reasons.items():
        print(f'left out, {reason}:')
        print('\n'.join(f'  {key}' for key in keys[:SHOWN]))
        if len(keys) > SHOWN:
            print(f'  and {len(keys) - SHOWN} more')
    for note in result.notes:
        print(f'note: {note}')


if __name__ == '__main__':
    main()
