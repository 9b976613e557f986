r"""Make a codebook of patches out of the training data of a config, for PatchTokenizer.

Example, in seconds and from a clone::

    python tools/dataset_converters/make_codebook.py configs/vimpac/demo/vimpac_shapes.py \
        work_dirs/codebook_shapes.pth --patch-size 4

It is the tokenizer that needs no pretrained model: each patch gets the number of the nearest of
--num-codes patches, which k-means finds.
"""

import argparse
import random
import sys
from pathlib import Path

from mmengine.registry import DATASETS, init_default_scope
from rich.progress import track

from bimm_mm.config.loading import merge_config
from bimm_mm.models.tokenizers.files import file_checksum
from bimm_mm.models.tokenizers.patch_codebook import fit_codebook, sample_patches, write_codebook


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='its train_dataloader.dataset gives the clips')
    parser.add_argument('out', help='file to write')
    parser.add_argument('--patch-size', type=int, default=8, help='side in pixels; default: 8')
    parser.add_argument('--num-codes', type=int, default=256, help='default: 256')
    parser.add_argument('--samples', type=int, default=400, help='clips to read; default: 400')
    parser.add_argument('--per-sample', type=int, default=128, help='patches of each; default: 128')
    parser.add_argument('--seed', type=int, default=0, help='default: 0')
    args = parser.parse_args()
    for name in ('patch_size', 'samples', 'per_sample'):
        if getattr(args, name) < 1:
            parser.error(f'--{name.replace("_", "-")} {getattr(args, name)} must be at least 1')
    if args.num_codes < 2:
        parser.error(f'--num-codes {args.num_codes} must be at least 2')
    return args


def main() -> None:
    """Read clips, cluster their patches, write the codebook."""
    args = parse_args()
    try:
        cfg = merge_config(args.config, {}, needs=('train_dataloader',))
        init_default_scope(cfg.get('default_scope', 'mmengine'))
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
        random.seed(args.seed)
        picks = random.sample(range(len(dataset)), min(args.samples, len(dataset)))
        clips = (dataset[index]['inputs'] for index in track(picks, 'reading clips'))
        patches = sample_patches(clips, args.patch_size, args.per_sample, args.seed)
        codebook = fit_codebook(patches, args.num_codes, args.seed)
        Path(args.out).parent.mkdir(parents=True, exist_ok=True)
        write_codebook(codebook, args.out)
    except (ImportError, OSError, ValueError) as error:
        sys.exit(str(error))
    print(
        f'{args.out}: {args.num_codes} codes of {args.patch_size}x{args.patch_size} pixels, made '
        f'of {codebook.num_patches} patches\n'
        f'they explain {codebook.explained:.1%} of the variance; in effect '
        f'{codebook.perplexity:.0f} are in use, the most frequent one {codebook.most_frequent:.1%} '
        f'of the time\n'
        f"tokenizer=dict(type='PatchTokenizer', checkpoint={args.out!r},\n"
        f"               sha256='{file_checksum(args.out)}')"
    )


if __name__ == '__main__':
    main()
