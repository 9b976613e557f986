"""Classify videos, or save their features; a file or a folder."""

import argparse
import sys
from functools import partial
from pathlib import Path

import numpy as np

from bimm_mm.apis import VideoModel, find_videos, run
from bimm_mm.cli.arguments import add_config_options
from bimm_mm.config.check import ConfigError
from bimm_mm.config.loading import merge_config
from bimm_mm.utils.files import printable


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config of the finetuned model')
    parser.add_argument('checkpoint', help='the model; for --features, an encoder will do')
    parser.add_argument('input', help='a video, or a folder of videos')
    parser.add_argument('--top', type=int, default=5, help='classes to print, default: %(default)s')
    parser.add_argument('--classes', help='file with the names of the classes, one per line')
    parser.add_argument(
        '--features', metavar='OUT', help='save features as OUT/<path of the video>.npz instead'
    )
    parser.add_argument('--device', help='default: the accelerator, where there is one')
    add_config_options(parser, 'test_dataloader.batch_size=4')
    args = parser.parse_args()
    try:
        find_videos(args.input)
        cfg = merge_config(args.config, args.cfg_options)
        model = VideoModel(cfg, args.checkpoint, args.device, args.classes)
        function = model.features if args.features else partial(model.classify, top=args.top)
        failed = 0
        for video, result in run(function, args.input):
            if isinstance(result, Exception):
                failed += 1
                print(printable(str(result)), file=sys.stderr)
            elif args.features:
                print(printable(save(result, video, args)))
            else:
                print(printable(video))
                for guess in result:
                    print(f'  {guess.score:6.1%}  {guess.name or guess.label}')
    except (ConfigError, OSError, ValueError) as error:
        sys.exit(str(error))
    sys.exit(f'{failed} of {len(find_videos(args.input))} videos failed' if failed else 0)


def save(feature: np.ndarray, video: Path, args: argparse.Namespace) -> Path:
    """Write a feature as ``feature`` of an .npz file, in the folders that the video is in."""
    root = Path(args.input)
    name = video.relative_to(root) if root.is_dir() else Path(video.name)
    path = Path(args.features) / name.with_name(f'{name.name}.npz')
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, feature=feature)
    return path


if __name__ == '__main__':
    main()
