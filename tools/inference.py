"""Classify videos, or save their features; a file or a folder."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np

from bimm_mm.apis import Prediction, VideoModel, find_videos, run
from bimm_mm.cli.arguments import add_config_and_checkpoint, add_config_options
from bimm_mm.config.check import ConfigError
from bimm_mm.config.loading import merge_config
from bimm_mm.evaluation.functional.classification import csv_text
from bimm_mm.utils.files import printable, write_text


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_config_and_checkpoint(
        parser, 'of the finetuned model', 'the model; for --features, an encoder will do'
    )
    parser.add_argument('input', help='a video, or a folder of videos')
    parser.add_argument('--top', type=int, default=5, help='classes to print, default: %(default)s')
    parser.add_argument(
        '--classes',
        help='file with the names of the classes, one per line; default: those in the checkpoint',
    )
    parser.add_argument(
        '--out',
        type=Path,
        metavar='FILE',
        help='write the scores of all classes for each video: .csv or .json',
    )
    parser.add_argument(
        '--features', metavar='OUT', help='save features as OUT/<path of the video>.npz instead'
    )
    parser.add_argument('--device', help='default: the accelerator, where there is one')
    add_config_options(parser, 'test_dataloader.batch_size=4')
    args = parser.parse_intermixed_args()
    if args.out is not None and (args.features or args.out.suffix not in ('.csv', '.json')):
        parser.error(f'--out {args.out}: must end in .csv or .json, and is for classes')
    try:
        find_videos(args.input)
        cfg = merge_config(args.config, args.cfg_options, args.checkpoint)
        model = VideoModel(cfg, args.checkpoint, args.device, args.classes)
        function = model.features if args.features else partial(model.classify, top=None)
        failed, results = 0, []
        for video, result in run(function, args.input):
            results.append((video, result))
            if isinstance(result, Exception):
                failed += 1
                print(printable(str(result)), file=sys.stderr)
            elif args.features:
                print(printable(save(result, video, args)))
            else:
                print(printable(video))
                for guess in result[: args.top]:
                    print(f'  {guess.score:6.1%}  {guess.name or guess.label}')
        if args.out is not None:
            args.out.parent.mkdir(parents=True, exist_ok=True)
            write_text(args.out, (as_csv if args.out.suffix == '.csv' else as_json)(results))
            print(f'written: {printable(args.out)}')
    except (ConfigError, OSError, ValueError) as error:
        sys.exit(str(error))
    sys.exit(f'{failed} of {len(find_videos(args.input))} videos failed' if failed else 0)


def as_csv(results: Sequence[tuple[Path, object]]) -> str:
    """A line per video: file, prediction, its score, and the scores of all classes."""
    guesses = next((r for _, r in results if not isinstance(r, Exception)), [])
    classes = sorted(guesses, key=lambda guess: guess.label)
    rows = []
    for video, result in results:
        if isinstance(result, Exception):
            rows.append([video, '', '', *([''] * len(classes)), printable(str(result))])
            continue
        scores = [f'{g.score:.6f}' for g in sorted(result, key=lambda guess: guess.label)]
        best = result[0]
        rows.append([video, name_of(best), f'{best.score:.6f}', *scores, ''])
    head = ['file', 'prediction', 'score', *(f'score {name_of(guess)}' for guess in classes)]
    return csv_text([*head, 'error'], rows)


def as_json(results: Sequence[tuple[Path, object]]) -> str:
    """A list with ``file`` and ``predictions``, best first, or ``error`` of each video."""
    content = [
        dict(file=printable(video), error=printable(str(result)))
        if isinstance(result, Exception)
        else dict(file=printable(video), predictions=[asdict(guess) for guess in result])
        for video, result in results
    ]
    return json.dumps(content, indent=1, ensure_ascii=False)


def name_of(guess: Prediction) -> str:
    """The name of a class, or its number."""
    return guess.name or str(guess.label)


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
