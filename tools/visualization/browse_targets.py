"""Draw samples of a training config and all their targets as training will see them.

A picture per sample, after augmentation: the frames, and below them the targets of every branch.
Look at some before spending GPU weeks. Example::

    python tools/visualization/browse_targets.py configs/bimm/joint_k400_vitb.py --out-dir pictures
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.runner import set_random_seed

from bimm_mm.cli.arguments import add_config_options
from bimm_mm.config.check import ConfigError, check_config
from bimm_mm.config.loading import merge_config
from bimm_mm.models import BasePretrainer, ContourTarget
from bimm_mm.visualization.views import denormalize, view_of

CELL, LEFT, HEADING, MARGIN, DPI = 224, 290, 44, 8, 100


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file of pretraining')
    parser.add_argument('--out-dir', type=Path, required=True, help='folder for the pictures')
    parser.add_argument('--samples', type=int, default=8, help='how many; default: 8')
    parser.add_argument('--frames', type=int, default=6, help='shown of a clip; default: 6')
    parser.add_argument('--seed', type=int, default=0, help='of choice and augmentation')
    add_config_options(parser, 'train_dataloader.dataset.data_root=/path/to/videos')
    args = parser.parse_args()
    for name in ('samples', 'frames'):
        if getattr(args, name) < 1:
            parser.error(f'--{name} {getattr(args, name)} must be at least 1')
    return args


def load(args: argparse.Namespace) -> Config:
    """The config, checked as for training.

    Raises:
        ConfigError: For whatever would stop training.
    """
    cfg = merge_config(args.config, args.cfg_options, needs=('model', 'train_dataloader'))
    cfg.model.pop('init_dorsal_from', None)  # weights are not needed
    for name in ('ventral', 'dorsal'):
        if name in cfg.model:
            cfg.model[name].pop('init_from', None)
    check_config(cfg, loops=('train',))
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    return cfg


@torch.no_grad()
def rows_of(model: BasePretrainer, batch: dict, count: int) -> list[tuple[str, np.ndarray]]:
    """The rows of a picture: a caption, and frames (n, h, w, 3) RGB in [0, 1].

    Args:
        model: The pretrainer.
        batch: One sample, preprocessed: ``inputs``, (1, 3, H, W) or (1, 3, T, H, W), and side
            inputs.
        count: Frames to show of a clip.
    """
    mean, std = (getattr(model.data_preprocessor, k).flatten().cpu() for k in ('mean', 'std'))
    rows = []
    for name, step in model(**batch, mode='predict').items():
        colors = step.x if step.x.dim() == 5 else step.x[:, :, None]
        length = colors.shape[2]
        shown = np.linspace(0, length - 1, min(count, length)).astype(int)
        picture = denormalize(colors, mean, std).clamp(0, 1)[0].permute(1, 2, 3, 0).numpy()
        what = (
            f'frames {", ".join(map(str, shown))}' if length > 1 else 'an image, or a random frame'
        )
        rows.append((f'{name} branch: input\n{what}', picture[shown]))
        for target in model.branches[name].targets:
            view = view_of(target, mean, std)
            maps = view.maps(target.from_step(step, None), colors)
            images = view.colors(maps, view.limit(maps))[0]
            unit = f'\nbright: {view.limit(maps):.2g}, {view.unit}' if view.unit else ''
            rows.append((f'{view.title}{unit}', images[shown * len(images) // length]))
            if isinstance(target, ContourTarget):
                strength = maps[0, 0, shown, ..., None].numpy()
                over = picture[shown] * (1 - strength) + np.float32([1, 0, 0]) * strength
                rows.append(('contours, in red, over the input', over))
    return rows


def draw(rows: list[tuple[str, np.ndarray]], title: str) -> Figure:
    """One line of images for each row."""
    columns = max(len(images) for _, images in rows)
    width = LEFT + columns * (CELL + MARGIN)
    height = HEADING + len(rows) * (CELL + MARGIN)
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor='white')
    FigureCanvasAgg(figure)
    figure.text(MARGIN / width, 1 - HEADING / 2 / height, title, va='center', fontsize=11)
    for line, (caption, images) in enumerate(rows):
        top = HEADING + line * (CELL + MARGIN)
        figure.text(MARGIN / width, 1 - (top + CELL / 2) / height, caption, va='center', fontsize=8)
        for column, image in enumerate(images):
            left = LEFT + column * (CELL + MARGIN)
            box = (left / width, 1 - (top + CELL) / height, CELL / width, CELL / height)
            axes = figure.add_axes(box)
            axes.imshow(image, interpolation='nearest')
            axes.set_axis_off()
    return figure


def main() -> None:
    """Draw the samples."""
    args = parse_args()
    try:
        cfg = load(args)
    except ConfigError as error:
        sys.exit(str(error))
    set_random_seed(args.seed)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    model = MODELS.build(cfg.model).eval()
    if not isinstance(model, BasePretrainer):
        sys.exit(f'{args.config} is no config of pretraining: its model has no targets')
    args.out_dir.mkdir(parents=True, exist_ok=True)
    chosen = np.random.permutation(len(dataset))[: args.samples]
    for index in chosen.tolist():
        batch = model.data_preprocessor(pseudo_collate([dataset[index]]))
        source = ''
        if hasattr(dataset, 'get_data_info'):
            info = dataset.get_data_info(index)
            source = info.get('filename') or info.get('img_path') or ''
        figure = draw(rows_of(model, batch, args.frames), f'sample {index}  {source}')
        path = args.out_dir / f'{index:06d}.png'
        figure.savefig(path, dpi='figure')
        print(path)


if __name__ == '__main__':
    main()
