r"""Convert a published tokenizer into one small file, without running code that it may hold.

Examples::

    python tools/model_converters/convert_tokenizer.py encoder.pkl dalle.pth
    python tools/model_converters/convert_tokenizer.py vqgan_gumbel_f8/last.ckpt gumbel_f8.pth

SRC is encoder.pkl of DALL·E, dalle_encoder.pth of mmpretrain, a folder or file of transformers'
FlavaImageCodebook, or a checkpoint of taming-transformers. The tokenizers read these files too; the
converted one holds the encoder only and is loaded faster.
"""

import argparse
import sys

from bimm_mm.models.tokenizers.conversion import convert_tokenizer


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', metavar='SRC', help='file or folder')
    parser.add_argument('out', metavar='OUT', help='file to write')
    args = parser.parse_args()
    try:
        made = convert_tokenizer(args.source, args.out)
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    print(
        f'{args.out}: {made["num_tensors"]} tensors, {made["num_parameters"] / 1e6:.1f} M values\n'
        f"tokenizer=dict(type='{made['type']}', checkpoint={args.out!r},\n"
        f"               sha256='{made['sha256']}')"
    )


if __name__ == '__main__':
    main()
