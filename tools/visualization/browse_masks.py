"""Draw which tokens of a clip each masking hides.

    python tools/visualization/browse_masks.py --out masks.png
    python tools/visualization/browse_masks.py --video clip.mp4 --maskings \
        "dict(type='TubeMasking', ratio=0.9)" "dict(type='BlockMasking', ratio=0.5)"
    python tools/visualization/browse_masks.py --video clip.mp4 --guided \
        --clip weights/clip-vit-base-patch32 --caption "a man throws a ball"

Without ``--maskings`` it draws every blind masking with the settings of the method that it comes
from, with ``--guided`` those that look at the clip: its motion and, with ``--clip``, its caption.
"""

import argparse
import ast
from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS

from bimm_mm.cli.arguments import fail
from bimm_mm.datasets import MovingShapesDataset
from bimm_mm.visualization import save_figure
from bimm_mm.visualization.inputs import clip_indices, read_clip
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


GUIDED = {
    'frame differences': dict(type='FrameDifferenceMasking', ratio=0.75),
    'motion vectors (MGM)': dict(type='MotionVectorMasking', ratio=0.75),
    'random walk (SMM)': dict(type='MotionVectorMasking', ratio=0.75, follow='walk'),
    'optical flow (MGMAE)': dict(
        type='FlowGuidedMasking', ratio=0.9, flow=dict(type='DisFlow', preset='medium')
    ),
}


def text_guided(checkpoint: str) -> dict[str, dict]:
    """TGM's maskings, by a CLIP in a folder."""
    names = {'text, raw (TGM)': 'raw', 'text, values': 'value'}
    return {
        name: dict(
            type='TextGuidedMasking',
            ratio=0.6,
            guide=dict(type='ClipGuide', checkpoint=checkpoint, dense=dense),
        )
        for name, dense in names.items()
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
        '--guided', action='store_true', help='instead of the blind ones, those guided by motion'
    )
    parser.add_argument('--clip', help='with --guided: folder of a CLIP, for guidance by text')
    parser.add_argument('--caption', help='of the clip; a true one where the clip is generated')
    parser.add_argument(
        '--grid', type=int, nargs=3, default=(8, 14, 14), metavar='N', help="tokens: T' H' W'"
    )
    parser.add_argument('--interval', type=int, default=4, help='frames from one to the next')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', type=Path, default=Path('work_dirs/masks.png'))
    args = parser.parse_args()
    if args.clip and args.video and not args.caption:
        parser.error('--clip needs the --caption of the video')
    return args


def read_sides(args: argparse.Namespace, size: tuple[int, int, int]) -> dict:
    """Motion vectors of the middle of the video, as training has them; none of generated clips."""
    if not (args.guided and args.video):
        return {}
    from bimm_mm.video.motion_vectors import MotionVectorReader

    reader = MotionVectorReader(args.video)
    try:
        indices = clip_indices(len(reader), size[0], args.interval, None)
        vectors = torch.from_numpy(reader.get_vectors(indices)).movedim(3, 0)  # (2, T, h, w)
        height, width = reader.shape
    finally:
        reader.close()
    short = min(vectors.shape[2:])
    top, left = ((side - short) // 2 for side in vectors.shape[2:])
    vectors = vectors[:, :, top : top + short, left : left + short]  # as the clip is cropped
    vectors = F.adaptive_avg_pool3d(vectors, tuple(args.grid)).movedim(0, 3)
    per_slot = args.interval * size[0] / args.grid[0]  # frames
    return dict(motion_vectors=vectors[None] * per_slot * args.grid[1] / min(height, width))


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
        configs = (
            GUIDED | (text_guided(args.clip) if args.clip else {}) if args.guided else DEFAULTS
        )
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
            sample = MovingShapesDataset(length=1, num_frames=size[0], captions=True)[0]
            args.caption = args.caption or sample['data_samples'].caption
            clip = sample['inputs']
            clip = F.interpolate(clip.transpose(0, 1).float(), size[1:]).transpose(0, 1).byte()
        side = read_sides(args, size) | dict(caption=[args.caption or ''])
        figure = draw_maskings(clip, maskings, tuple(args.grid), args.seed, side=side)
        print(save_figure(figure, args.out))
    except (ValueError, KeyError, OSError) as error:
        fail(error)


if __name__ == '__main__':
    main()
