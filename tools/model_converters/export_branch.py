"""Cut the encoder of one branch out of a pretraining checkpoint, for finetuning and other use.

With --format bimm, the new file holds the encoder alone, its keys without a prefix. In a config it
is named inside of the backbone:
backbone=dict(type='BimmViT', ..., init_cfg=dict(type='Pretrained', checkpoint=OUT)).

With --format timm (ventral) or huggingface (dorsal, VideoMAE), OUT is a folder with
model.safetensors and config.json; CKPT may then be an encoder or a finetuned model, too.

With --format hub, OUT is a folder for BimmViT.from_pretrained(OUT) and for the Hugging Face hub:
model.safetensors, config.json and a model card, filled from what CKPT knows of its run.
--push USER/NAME uploads it.

With --format vimpac, OUT is a file as VIMPAC's authors published theirs, with the heads that CKPT
has.
"""

import argparse
import json
import sys
from pathlib import Path

from bimm_mm.models.checkpoints import BRANCHES, export_branch
from bimm_mm.models.conversion import FORMATS, export_folder, export_vimpac
from bimm_mm.models.hub import export_pretrained, upload


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
        choices=('bimm', 'hub', 'vimpac', *FORMATS),
        default='bimm',
        help='default: %(default)s',
    )
    parser.add_argument(
        '--num-heads', type=int, help='of the encoder, where nothing in the checkpoint tells it'
    )
    parser.add_argument('--license', help="of the weights, for --format hub: 'apache-2.0', ...")
    parser.add_argument(
        '--figures', help='for --format hub: a JSON file of results, {"UCF101, k-NN": "71.3 %%"}'
    )
    parser.add_argument(
        '--push', metavar='USER/NAME', help='for --format hub: upload it (hf auth login first)'
    )
    args = parser.parse_args()
    if args.format != 'hub' and (args.license or args.figures or args.push):
        parser.error('--license, --figures and --push belong to --format hub')
    try:
        if args.format == 'hub':
            figures = json.loads(Path(args.figures).read_text()) if args.figures else None
            count = export_pretrained(args.checkpoint, args.out, args.branch, args.license, figures)
            print(f'{args.out}: the {args.branch} encoder, {count} tensors, and a model card')
            if args.push:
                print(upload(args.out, args.push))
            return
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
