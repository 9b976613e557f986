"""Draw which tokens of a clip each masking hides.

    python tools/visualization/browse_masks.py --out masks.png
    python tools/visualization/browse_masks.py --video clip.mp4 --maskings \
        "dict(type='TubeMasking', ratio=0.9)" "dict(type='BlockMasking', ratio=0.5)"

Without ``--maskings`` it draws every blind masking with the settings of the method that it comes
from. A guided masking can be given, too, if the clip is all that it asks for.
"""

import argparse
import ast
from pathlib import Path

import torch.nn.functional as F
from mmengine.registry import MODELS

from bimm_mm.cli.arguments import fail
from bimm_mm.datasets import MovingShapesDataset
from bimm_mm.visualization import save_figure
from bimm_mm.visualization.inputs import read_clip
from bimm_mm.visualization.masks import draw_maskings

DEFAULTS = {
    'random (MAE-ST)': dict(type='RandomMasking', ratio=0.9),
    'tube (VideoMAE)': dict(type='TubeMasking', ratio=0.9),
    'frame': dict(type='FrameMasking', ratio=0.75),
    'block (CAE)': dict(type='BlockMasking', ratio=0.5),
    'block span (BEVT)': dict(type='BlockMasking', ratio=0.5, span=(0.5, 1.0)),
    'cube (MaskFeat)': dict(type='CubeMasking', ratio=0.4),
    'multi-block, short (V-JEPA)': dict(type='MultiBlockMasking', num_blocks=8),
    'multi-block, long (V-JEPA)': dict(
        type='MultiBlockMasking', num_blocks=2, spatial_scale=(0.7, 0.7)
    ),
    'running cell (VideoMAE V2)': dict(type='RunningCellMasking', ratio=0.5),
    'blocks (VIMPAC)': dict(type='VimpacMasking', num_blocks=5),
}


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--video', help='a video file; a generated clip when left out')
    parser.add_argument(
        '--maskings', nargs='+', metavar='CONFIG', help='configs, each as dict(type=..., ...)'
    )
    parser.add_argument(
        '--grid', type=int, nargs=3, default=(8, 14, 14), metavar='N', help="tokens: T' H' W'"
    )
    parser.add_argument('--interval', type=int, default=4, help='frames from one to the next')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', type=Path, default=Path('work_dirs/masks.png'))
    return parser.parse_args()


def read_masking(text: str) -> dict:
    """A config as it is written in a config file: ``dict(type=..., ratio=...)``.

    Raises:
        ValueError: It is not a dict of plain values.
    """
    try:
        call = ast.parse(text, mode='eval').body
        return {word.arg: ast.literal_eval(word.value) for word in call.keywords}
    except (SyntaxError, ValueError, AttributeError) as error:
        raise ValueError(f'--maskings {text!r} must be as dict(type=..., ratio=...)') from error


def main() -> None:
    """Draw the picture."""
    args = parse_args()
    frames, rows, columns = args.grid
    size = (2 * frames, 16 * rows, 16 * columns)
    try:
        configs = DEFAULTS
        if args.maskings:
            configs = {text: read_masking(text) for text in args.maskings}
        maskings = {
            name: MODELS.build(config)
            for name, config in configs.items()
            if not (configs is DEFAULTS and config['type'] not in MODELS)
        }
        if args.video:
            clip = read_clip(args.video, size[0], args.interval, size[1:], None)
        else:
            clip = MovingShapesDataset(length=1, num_frames=size[0])[0]['inputs']
            clip = F.interpolate(clip.transpose(0, 1).float(), size[1:]).transpose(0, 1).byte()
        figure = draw_maskings(clip, maskings, tuple(args.grid), args.seed)
        print(save_figure(figure, args.out))
    except (ValueError, KeyError, OSError) as error:
        fail(error)


if __name__ == '__main__':
    main()
