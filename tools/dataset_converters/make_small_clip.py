r"""Train a small CLIP on the clips and captions of a config, in the layout of transformers.

Example, in minutes and from a clone::

    python tools/dataset_converters/make_small_clip.py configs/tgm/demo/tgm_shapes.py \
        work_dirs/tgm_shapes/clip --patch-size 8

It takes CLIP's place in TGM where nothing can be downloaded. It learns from single frames, and
knows only what they and their captions show.
"""

import argparse
import random
import sys
from collections.abc import Sequence

import torch
from mmengine.registry import DATASETS, init_default_scope
from torch import Tensor
from torch.utils.data import Dataset

from bimm_mm.captions.small_clip import SmallClip
from bimm_mm.config.loading import merge_config
from bimm_mm.utils.progress import Progress


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='its train_dataloader.dataset gives clips with captions')
    parser.add_argument('out', help='folder to write')
    parser.add_argument('--patch-size', type=int, default=8, help='in pixels; default: 8')
    parser.add_argument('--iters', type=int, default=600, help='default: 600')
    parser.add_argument('--batch-size', type=int, default=64, help='default: 64')
    parser.add_argument('--seed', type=int, default=0, help='default: 0')
    args = parser.parse_args()
    for name in ('patch_size', 'iters', 'batch_size'):
        if getattr(args, name) < 1:
            parser.error(f'--{name.replace("_", "-")} {getattr(args, name)} must be at least 1')
    return args


def draw(dataset: Dataset, count: int) -> tuple[Tensor, Sequence[str]]:
    """Draw random frames, (count, 3, H, W) uint8, of random clips, and their captions.

    Raises:
        ValueError: A sample has no caption.
    """
    frames, captions = [], []
    for index in random.sample(range(len(dataset)), min(count, len(dataset))):
        sample = dataset[index]
        if not getattr(sample['data_samples'], 'caption', None):
            raise ValueError(f'sample {index} of the training data has no caption')
        clip = sample['inputs'].reshape(-1, *sample['inputs'].shape[-4:])[0]  # (3, T, H, W)
        frames.append(clip[:, random.randrange(clip.shape[1])])
        captions.append(sample['data_samples'].caption)
    return torch.stack(frames), captions


def main() -> None:
    """Read the config, train, write."""
    args = parse_args()
    try:
        cfg = merge_config(args.config, {}, needs=('train_dataloader',))
        init_default_scope(cfg.get('default_scope', 'mmengine'))
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
        random.seed(args.seed)
        torch.manual_seed(args.seed)
        frames, captions = draw(dataset, 512)  # whose words are the vocabulary
        size = frames.shape[-1]
        if frames.shape[-2] != size or size % args.patch_size:
            raise ValueError(
                f'--patch-size {args.patch_size} must divide square frames, and these have '
                f'{frames.shape[-2]}x{size} pixels'
            )
        clip = SmallClip(args.out, captions, size, args.patch_size)
        with Progress('iterations', args.iters) as progress:
            for losses in clip.train(lambda: draw(dataset, args.batch_size), args.iters):
                progress.advance(note='loss {:.2f}, patches {:.2f}, words {:.3f}'.format(*losses))
        clip.save()
    except (ImportError, OSError, ValueError) as error:
        sys.exit(str(error))
    print(f'{args.out}: a CLIP for frames of {size}x{size} pixels')


if __name__ == '__main__':
    main()
