"""Draw what a detector or segmentor finds on a photograph, or on a folder of them, as PNG files."""

import argparse
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS

from bimm_mm.cli.arguments import add_config_options
from bimm_mm.config.check import ConfigError
from bimm_mm.config.loading import merge_config
from bimm_mm.datasets.verify import IMAGES
from bimm_mm.models.checkpoints import check_fit, forget_initialization, read_checkpoint


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config of the model, of mmdet or mmseg')
    parser.add_argument('checkpoint', help='the trained model')
    parser.add_argument('input', help='an image, or a folder of images')
    parser.add_argument('--out', default='work_dirs/pictures', help='folder; default: %(default)s')
    parser.add_argument(
        '--score', type=float, default=0.3, help='lowest score of a drawn box; default: %(default)s'
    )
    parser.add_argument('--device', help='default: the accelerator, where there is one')
    add_config_options(parser, 'model.test_cfg.rcnn.score_thr=0.1')
    args = parser.parse_args()
    if not 0 <= args.score <= 1:
        parser.error(f'--score {args.score}: must be from 0 to 1')
    return args


def find_images(path: str) -> list[Path]:
    """The file itself, or the images below a folder, sorted.

    Raises:
        FileNotFoundError: There is no such file or folder, or no image in it.
    """
    if Path(path).is_file():
        return [Path(path)]
    if not Path(path).is_dir():
        raise FileNotFoundError(f'no such file or folder: {path}')
    found = sorted(p for p in Path(path).rglob('*') if p.suffix.lower() in IMAGES)
    if not found:
        raise FileNotFoundError(f'no image in the folder {path}: none ends in {", ".join(IMAGES)}')
    return found


def build(cfg: Config, checkpoint: str, score: float, device: str | None) -> Callable:
    """A function from the path of an image to a picture (H, W, 3), RGB, and what was found.

    Raises:
        ConfigError: The config is of neither library.
        FileNotFoundError: There is no checkpoint.
        ValueError: It is none, or does not fit the model.
    """
    scope = cfg.get('default_scope')
    if scope not in ('mmdet', 'mmseg'):
        raise ConfigError(
            f'{cfg.filename} is of {scope}: pictures are drawn of detectors and segmentors, with '
            "default_scope='mmdet' or 'mmseg'"
        )
    state = read_checkpoint(checkpoint)['state_dict']
    forget_initialization(cfg.model)
    if scope == 'mmdet':
        from mmdet.apis import DetInferencer as Inferencer
    else:
        from mmseg.apis import MMSegInferencer as Inferencer
    options = dict(weights=checkpoint, device=device)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # about names of classes, which are set below
        inferencer = Inferencer(cfg, **options)
    check_fit(inferencer.model, state, checkpoint)
    names = DATASETS.build(dict(cfg.test_dataloader.dataset, lazy_init=True)).metainfo
    names = {key: names[key] for key in ('classes', 'palette') if key in names}
    inferencer.model.dataset_meta = inferencer.visualizer.dataset_meta = names
    inferencer.show_progress = False

    def detect(path: str) -> tuple[np.ndarray, str]:
        result = inferencer(path, return_vis=True, pred_score_thr=score)
        scores = result['predictions'][0]['scores']
        found = sum(value >= score for value in scores)
        return result['visualization'][0], f'{found} found with a score of {score} or more'

    def segment(path: str) -> tuple[np.ndarray, str]:
        result = inferencer(path, return_vis=True)
        labels, counts = np.unique(result['predictions'], return_counts=True)
        largest = labels[np.argsort(-counts)][:3]
        return result['visualization'], ', '.join(names['classes'][label] for label in largest)

    return detect if scope == 'mmdet' else segment


def main() -> None:
    """The command line."""
    args = parse_args()
    try:
        images = find_images(args.input)
        draw = build(
            merge_config(args.config, args.cfg_options), args.checkpoint, args.score, args.device
        )
        root = Path(args.input) if Path(args.input).is_dir() else images[0].parent
        failed = 0
        for path in images:
            if cv2.imread(str(path)) is None:
                failed += 1
                print(f'{path} is no image, or broken', file=sys.stderr)
                continue
            picture, found = draw(str(path))
            target = Path(args.out) / path.relative_to(root).with_name(f'{path.name}.png')
            target.parent.mkdir(parents=True, exist_ok=True)
            if not cv2.imwrite(str(target), picture[..., ::-1]):
                raise OSError(f'cannot write {target}')
            print(f'{target}: {found}')
    except (ConfigError, OSError, ValueError) as error:
        sys.exit(str(error))
    sys.exit(f'{failed} of {len(images)} images failed' if failed else 0)


if __name__ == '__main__':
    main()
