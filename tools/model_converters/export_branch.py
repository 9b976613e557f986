"""Cut the encoder of one branch out of a pretraining checkpoint, for finetuning and other use.

With --format bimm, the new file holds the encoder alone, its keys without a prefix. In a config it
is named inside of the backbone:
backbone=dict(type='BimmViT', ..., init_cfg=dict(type='Pretrained', checkpoint=OUT)).

With --format timm (ventral) or huggingface (dorsal, VideoMAE), OUT is a folder with
model.safetensors and config.json; CKPT may then be an encoder or a finetuned model, too.

With --format vimpac, OUT is a file as VIMPAC's authors published theirs, with the heads that CKPT
has.
"""

import argparse
import sys

from bimm_mm.models.checkpoints import BRANCHES, export_branch
from bimm_mm.models.conversion import FORMATS, export_folder, export_vimpac


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('checkpoint', metavar='CKPT', help='checkpoint of a pretraining run')
    parser.add_argument('out', metavar='OUT', help='file to write; another format: a folder')
    parser.add_argument(
        '--branch', choices=BRANCHES, required=True, help='dorsal for videos, ventral for images'
    )
    parser.add_argument(
        '--format',
        choices=('bimm', 'vimpac', *FORMATS),
        default='bimm',
        help='default: %(default)s',
    )
    parser.add_argument(
        '--num-heads', type=int, help='of the encoder, where nothing in the checkpoint tells it'
    )
    args = parser.parse_args()
    try:
        if args.format == 'bimm':
            count = export_branch(args.checkpoint, args.out, args.branch)
            print(f'{args.out}: the {args.branch} encoder, {count} tensors')
            return
        if args.format == 'vimpac':
            count = export_vimpac(args.checkpoint, args.out)
            print(f'{args.out}: as VIMPAC published it, {count} tensors')
            return
        exported = export_folder(
            args.checkpoint, args.out, args.branch, args.format, args.num_heads
        )
    except (ImportError, OSError, ValueError) as error:
        sys.exit(str(error))
    print(f'{args.out}: the {args.branch} encoder, {len(exported.tensors)} tensors')
    for key, reason in exported.dropped.items():
        print(f'left out: {key}, {reason}')
    if exported.differences:
        reasons = '; '.join(exported.differences)
        print(f'NOT the same features: {reasons}. See docs/checkpoints.md')


if __name__ == '__main__':
    main()
