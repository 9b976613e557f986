"""Cut the encoder of one branch out of a pretraining checkpoint, for finetuning and other use.

The new file holds the encoder alone, its keys without a prefix. In a config it is named inside of
the backbone: backbone=dict(type='BimmViT', ..., init_cfg=dict(type='Pretrained', checkpoint=OUT)).
"""

import argparse
import sys

from bimm_mm.models.checkpoints import BRANCHES, export_branch


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('checkpoint', metavar='CKPT', help='checkpoint of a pretraining run')
    parser.add_argument('out', metavar='OUT', help='file to write')
    parser.add_argument(
        '--branch', choices=BRANCHES, required=True, help='dorsal for videos, ventral for images'
    )
    args = parser.parse_args()
    try:
        count = export_branch(args.checkpoint, args.out, args.branch)
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    print(f'{args.out}: the {args.branch} encoder, {count} tensors')


if __name__ == '__main__':
    main()
