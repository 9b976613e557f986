"""Draw samples of a config's data set, frames in a row, with their labels and captions.

    python tools/visualization/browse_dataset.py configs/bimm/demo/joint_shapes.py --out clips.png \
        --cfg-options train_dataloader.dataset.shapes=outlines

What is drawn is what training gets, before it is normalized. ``--loader`` takes another of the
config's data loaders.
"""

import argparse
import random
from pathlib import Path

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from mmengine.registry import DATASETS, init_default_scope
from torch import Tensor
from torch.utils.data import Dataset

import bimm_mm  # noqa: F401
from bimm_mm.cli.arguments import add_config_options, fail
from bimm_mm.config.check import ConfigError
from bimm_mm.config.loading import merge_config
from bimm_mm.visualization import save_figure


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='with the data set')
    parser.add_argument('--loader', default='train_dataloader', help='default: %(default)s')
    parser.add_argument('--samples', type=int, default=8, help='default: %(default)s')
    parser.add_argument('--frames', type=int, default=4, help='of a clip; default: %(default)s')
    parser.add_argument('--columns', type=int, default=2, help='default: %(default)s')
    parser.add_argument('--seed', type=int, default=0, help='of the choice; default: 0')
    parser.add_argument('--out', type=Path, default='work_dirs/dataset.png', help='%(default)s')
    add_config_options(parser, 'train_dataloader.dataset.size=64')
    args = parser.parse_args()
    for name in ('samples', 'frames', 'columns'):
        if getattr(args, name) < 1:
            parser.error(f'--{name} {getattr(args, name)} must be at least 1')
    return args


def frames_of(inputs: Tensor, count: int) -> Tensor:
    """Some frames, evenly spread, of a sample's first view: (n, H, W, 3)."""
    clip = inputs.reshape(-1, *inputs.shape[-4:])[0] if inputs.dim() > 3 else inputs[:, None]
    some = torch.linspace(0, clip.shape[1] - 1, min(count, clip.shape[1])).round().long()
    return clip[:3, some].permute(1, 2, 3, 0)  # without contours


def describe(sample: object, names: dict) -> str:
    """The caption of a data sample, or its labels, in words where the data set has them."""
    if getattr(sample, 'caption', None):
        return sample.caption
    words = []
    for key, value in sample.all_items():
        classes = names.get(f'{key}_classes')
        if classes is not None:
            words.append(f'{key}: {classes[int(value)]}')
        elif key == 'gt_label':
            words.append(f'class {int(value)}')
    return ', '.join(words)


def draw(dataset: Dataset, args: argparse.Namespace) -> Figure:
    """Rows of frames, with a line of text above each."""
    chosen = random.Random(args.seed).sample(range(len(dataset)), min(args.samples, len(dataset)))
    samples = [dataset[index] for index in chosen]
    rows = -(-len(samples) // args.columns)
    width = 1.15 * args.frames * args.columns
    figure = Figure(figsize=(max(width, 4), 1.45 * rows), dpi=80, layout='constrained')
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, args.columns, squeeze=False).ravel()
    for panel, sample in zip(panels, samples, strict=False):
        frames = frames_of(sample['inputs'], args.frames)
        panel.imshow(torch.cat(list(frames), dim=1).numpy(), interpolation='nearest')
        text = describe(sample['data_samples'], getattr(dataset, 'metainfo', None) or {})
        panel.set_title(text.replace('; ', '\n'), fontsize=7, loc='left')
    for panel in panels:
        panel.set_axis_off()
    return figure


def main() -> None:
    """Build the data set, draw, write."""
    args = parse_args()
    try:
        cfg = merge_config(args.config, args.cfg_options)
        init_default_scope(cfg.get('default_scope') or 'mmengine')
        if args.loader not in cfg:
            raise ConfigError(f'--loader {args.loader}: {args.config} has no such data loader')
        dataset = DATASETS.build(cfg[args.loader].dataset)
        print(save_figure(draw(dataset, args), args.out))
    except (ImportError, OSError, ValueError) as error:  # ConfigError is a ValueError
        fail(error)


if __name__ == '__main__':
    main()
