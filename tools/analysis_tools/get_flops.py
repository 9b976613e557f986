"""Parameters and multiply-adds of a config's model: of one view, and of the whole test protocol.

Nothing is computed and no data is needed. A pretraining config is counted without its decoders and
with nothing masked; of a detector, the backbone is counted.
"""

import argparse
import sys

from bimm_mm.cli.arguments import add_config_options
from bimm_mm.config.check import ConfigError
from bimm_mm.config.loading import merge_config
from bimm_mm.config.model import build_without_memory
from bimm_mm.evaluation.analysis.flops import count_multiply_adds, encoder_of, test_views


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--shape',
        type=int,
        nargs='+',
        metavar='N',
        help='frames, rows and columns of a view (rows and columns of an image); default: as the '
        'config tests',
    )
    add_config_options(parser, 'model.backbone.num_frames=32')
    args = parser.parse_args()
    if args.shape and len(args.shape) not in (2, 3):
        parser.error(f'--shape {args.shape}: two numbers for an image, three for a clip')
    try:
        cfg = merge_config(args.config, args.cfg_options)
    except ConfigError as error:
        sys.exit(str(error))
    model = build_without_memory(cfg)
    views = test_views(cfg)
    shape = tuple(args.shape or views.size)
    try:
        cost = count_multiply_adds(model, shape)
    except ValueError as error:
        sys.exit(str(error))
    total = views.clips * views.crops
    parameters = sum(p.numel() for p in model.parameters())
    print(f'{"model":12s} {type(model).__name__}, {type(encoder_of(model)).__name__}')
    print(f'{"parameters":12s} {parameters / 1e6:.1f} M')
    print(f'{"view":12s} {" x ".join(map(str, shape))}')
    print(f'{"one view":12s} {cost / 1e9:.1f} GFLOPs (multiply-adds)')
    protocol = f'{views.clips} clips x {views.crops} crops'
    print(f'{"test":12s} {cost * total / 1e9:.1f} GFLOPs for {protocol}')


if __name__ == '__main__':
    main()
