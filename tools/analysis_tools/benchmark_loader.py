"""How fast training clips are made, against bare decoding of the same frames.

One core makes one clip after the other, as a worker of the data loader does. For each draw, the
pipeline of a config and decord alone decode the same frames, in turns. Example::

    python tools/analysis_tools/benchmark_loader.py data/kinetics400/videos_train --repeats 1 4
"""

import argparse
import json
import os
import platform
import random
import time
from datetime import date
from pathlib import Path

import cv2
import decord
import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS, init_default_scope

from bimm_mm.cli.arguments import add_config_options, fail
from bimm_mm.config.check import ConfigError
from bimm_mm.config.loading import merge_config

CONFIG = 'configs/bimm/joint_k400_vitb_edge.py'


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('folder', help='folder of videos')
    parser.add_argument(
        '--config', default=CONFIG, help=f'its training pipeline is measured; default: {CONFIG}'
    )
    parser.add_argument(
        '--repeats', type=int, nargs='+', default=[1], help='clips per video; default: 1'
    )
    parser.add_argument(
        '--seconds', type=float, default=30.0, help='how long to measure; default: 30'
    )
    parser.add_argument('--seed', type=int, default=0, help='of the draws; default: 0')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the figures here, too')
    add_config_options(parser, 'train_dataloader.dataset.pipeline.1.frame_interval=2')
    args = parser.parse_args(argv)
    if min(args.repeats) < 1 or args.seconds <= 0:
        parser.error(f'--repeats {args.repeats} and --seconds {args.seconds} must be positive')
    return args


def build_dataset(args: argparse.Namespace, repeats: int) -> BaseDataset:
    """The training data set of the config, of the folder's videos instead of its own.

    Raises:
        ConfigError: There is no such config, or it does not train on videos.
        FileNotFoundError: There is no video in the folder.
    """
    cfg = merge_config(args.config, args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    dataset = cfg.train_dataloader.dataset
    if dataset.type != 'VideoFolderDataset':
        raise ConfigError(f'{args.config} trains on a {dataset.type}, not on a VideoFolderDataset')
    dataset.update(data_root=args.folder, ann_file='', data_prefix=dict(video=''))
    dataset.update(num_repeats=repeats, lazy_init=False, test_mode=False)
    if args.cfg_options.get('train_dataloader.dataset.contour_cache') is None:
        dataset.contour_cache = None
    return DATASETS.build(dataset)


def seed(number: int) -> None:
    """Seed all that transforms draw from."""
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)


def drawn_frames(dataset: BaseDataset, index: int) -> list[np.ndarray]:
    """Which frames the pipeline will decode for each clip, after the same seed."""
    info = dataset.get_data_info(index)
    info['total_frames'] = len(decord.VideoReader(info['filename'], num_threads=1))
    sample_frames = dataset.pipeline.transforms[1]
    return [sample_frames(dict(info))['frame_inds'] for _ in range(dataset.num_repeats)]


def decode(path: str, clips: list[np.ndarray]) -> None:
    """Bare decord: each clip from a file that is opened for it."""
    for frames in clips:
        decord.VideoReader(path, num_threads=1).get_batch(frames).asnumpy()


def measure(datasets: dict[int, BaseDataset], args: argparse.Namespace) -> list[dict]:
    """Time draws of all videos, round by round, until the time is over; at least one round.

    Returns:
        Per draw the ``video``, ``repeats``, and seconds per clip of the ``pipeline``
        and of ``decord``.
    """
    first = next(iter(datasets.values()))
    draws, round_number = [], 0
    start = time.perf_counter()
    while round_number < 2 or time.perf_counter() - start < args.seconds:
        for index in range(len(first)):
            for repeats, dataset in datasets.items():
                number = args.seed + round_number
                path = dataset.get_data_info(index)['filename']
                seed(number)
                clips = drawn_frames(dataset, index)
                times = {}
                ways = ['pipeline', 'decord']
                for way in ways if round_number % 2 else reversed(ways):
                    seed(number)
                    begin = time.perf_counter()
                    if way == 'decord':
                        decode(path, clips)
                    else:
                        # ready to be stacked: FormatShape leaves the channels last in memory
                        dataset.prepare_data(index)['inputs'].contiguous()
                    times[way] = (time.perf_counter() - begin) / repeats
                draws.append(dict(video=os.path.basename(path), repeats=repeats, **times))
        round_number += 1
        if round_number == 1:  # the first one has warmed up files, libraries and processes
            draws, start = [], time.perf_counter()
    return draws


def summarize(draws: list[dict]) -> dict:
    """Medians over draws, in milliseconds per clip, and the median of their ratios."""
    pipeline, bare = (np.array([draw[way] for draw in draws]) for way in ('pipeline', 'decord'))
    return dict(
        draws=len(draws),
        decord_ms=round(1e3 * float(np.median(bare)), 1),
        pipeline_ms=round(1e3 * float(np.median(pipeline)), 1),
        ratio=round(float(np.median(pipeline / bare)), 3),
    )


def rate(by_video: list[dict], key: str) -> float:
    """Clips per second where all videos are drawn equally often."""
    return round(1e3 / float(np.mean([row[key] for row in by_video])), 2)


def describe(path: str) -> dict:
    """Size, frames and key frames of a video."""
    reader = decord.VideoReader(path, num_threads=1)
    height, width = reader[0].shape[:2]
    return dict(
        video=os.path.basename(path),
        size=f'{width}x{height}',
        frames=len(reader),
        key_frames=len(reader.get_key_indices()),
        kilobytes=round(os.path.getsize(path) / 1e3),
    )


def table(rows: list[dict]) -> str:
    """A Markdown table, of which the first row has all columns."""
    columns = list(rows[0])
    lines = [columns, ['---'] * len(columns), *([row[c] for c in columns] for row in rows)]
    return '\n'.join('| ' + ' | '.join(str(cell) for cell in line) + ' |' for line in lines)


def run(args: argparse.Namespace) -> dict:
    """Measure, on one core, and return all figures."""
    datasets = {repeats: build_dataset(args, repeats) for repeats in args.repeats}
    first = next(iter(datasets.values()))
    paths = [first.get_data_info(index)['filename'] for index in range(len(first))]
    cores, threads = os.sched_getaffinity(0), torch.get_num_threads()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)  # as in a worker
    os.sched_setaffinity(0, {max(cores)})  # the decoder's process inherits it
    try:
        draws = measure(datasets, args)
    finally:
        os.sched_setaffinity(0, cores)
        torch.set_num_threads(threads)
    by_video = [
        dict(video=video, repeats=repeats)
        | summarize([d for d in draws if (d['video'], d['repeats']) == (video, repeats)])
        for repeats in args.repeats
        for video in sorted({draw['video'] for draw in draws})
    ]
    overall = []
    for repeats in args.repeats:
        rows = [row for row in by_video if row['repeats'] == repeats]
        row = summarize([draw for draw in draws if draw['repeats'] == repeats])
        rates = dict(
            decord_clips_per_s=rate(rows, 'decord_ms'),
            pipeline_clips_per_s=rate(rows, 'pipeline_ms'),
        )
        overall.append(dict(repeats=repeats) | row | rates)
    return dict(
        date=str(date.today()),
        machine=f'{platform.machine()}, {os.cpu_count()} cores, one used',
        config=args.config,
        videos=[describe(path) for path in paths],
        overall=overall,
        by_video=by_video,
    )


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    args = parse_args(argv)
    try:
        figures = run(args)
    except (ConfigError, FileNotFoundError) as error:
        fail(error)
    print(f'{figures["config"]}, {figures["machine"]}, {figures["date"]}\n')
    for name in ('videos', 'by_video', 'overall'):
        print(table(figures[name]) + '\n')
    print(
        'Milliseconds are per clip, medians over draws; clips per second, of one core, follow\n'
        'from the medians of the videos. ratio is the median of pipeline / decord, draw by draw.\n'
        'With repeats, decord opens and decodes the file for each clip, the pipeline once.'
    )
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + '\n')


if __name__ == '__main__':
    main()
