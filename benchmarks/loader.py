"""How fast training clips are made, beside the official VideoMAE loader's own steps.

One core makes one clip after the other, as a worker of the data loader does. All ways make the same
clips, a few at a time in turns, so that whatever else the machine does falls on all of them alike.
Example::

    python benchmarks/loader.py data/kinetics400/videos_train --repeats 1 4 \
        --rewritten data/kinetics400_256/videos_train --json loader.json

The peer: decord's get_batch, Pillow's multi-scale crop frame by frame, stack, float.
"""

import argparse
import json
import os
import platform
import random
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS, init_default_scope
from PIL import Image

from bimm_mm.cli.arguments import add_config_options, fail
from bimm_mm.config.check import ConfigError
from bimm_mm.config.loading import merge_config
from bimm_mm.datasets.transforms.repeats import split
from bimm_mm.utils.tables import markdown_table
from bimm_mm.video.pyav import PyavReader

CONFIG = 'configs/bimm/joint_k400_vitb_edge.py'
SCALES, SIZE, LENGTH, INTERVAL = (1, 0.875, 0.75, 0.66), 224, 16, 4


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('folder', help='folder of videos')
    parser.add_argument('--rewritten', help='the same videos after resize_videos.py')
    parser.add_argument(
        '--config', default=CONFIG, help=f'its training pipeline is measured; default: {CONFIG}'
    )
    parser.add_argument(
        '--repeats', type=int, nargs='+', default=[1, 4], help='clips per video; default: 1 4'
    )
    parser.add_argument('--draws', type=int, default=40, help='default: 40')
    parser.add_argument('--seed', type=int, default=0, help='of the draws; default: 0')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the figures here, too')
    add_config_options(parser, 'train_dataloader.dataset.pipeline.1.frame_interval=2')
    args = parser.parse_args(argv)
    if min(args.repeats) < 1 or args.draws < 1:
        parser.error(f'--repeats {args.repeats} and --draws {args.draws} must be positive')
    return args


def build_dataset(args: argparse.Namespace, folder: str, repeats: int) -> BaseDataset:
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
    dataset.update(data_root=folder, ann_file='', data_prefix=dict(video=''), contour_cache=None)
    dataset.update(num_repeats=repeats, lazy_init=False, test_mode=False)
    return DATASETS.build(dataset)


def peer_clip(path: str) -> torch.Tensor:
    """A clip as the official VideoMAE loader makes it: (3 * 16, 224, 224) float in [0, 1]."""
    import decord

    reader = decord.VideoReader(path, num_threads=1)
    last = len(reader) - 1
    start = np.random.randint(max(last - (LENGTH - 1) * INTERVAL, 0) + 1)
    indices = np.minimum(start + INTERVAL * np.arange(LENGTH), last)
    frames = [Image.fromarray(frame) for frame in reader.get_batch(indices).asnumpy()]
    width, height = frames[0].size
    sides = [int(min(width, height) * scale) for scale in SCALES]
    sides = [SIZE if abs(side - SIZE) < 3 else side for side in sides]
    pairs = [(w, h) for i, w in enumerate(sides) for j, h in enumerate(sides) if abs(i - j) <= 1]
    w, h = random.choice(pairs)
    x = random.randint(0, 4) * ((width - w) // 4)
    y = random.randint(0, 4) * ((height - h) // 4)
    crops = [frame.crop((x, y, x + w, y + h)) for frame in frames]
    crops = [crop.resize((SIZE, SIZE), Image.Resampling.BILINEAR) for crop in crops]
    stacked = np.concatenate([np.asarray(crop) for crop in crops], axis=2)
    return torch.from_numpy(stacked).permute(2, 0, 1).contiguous().float().div(255)


def pipeline_clips(dataset: BaseDataset, index: int) -> None:
    """The clips of a video, with the copy into memory that the training process sees.

    They are bytes with their channels last in memory; the rest is done by the preprocessor, on the
    device.
    """
    dataset.prepare_data(index)['inputs'].clone()


def seed(number: int) -> None:
    """Seed all that transforms draw from."""
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)


def ways_of(args: argparse.Namespace) -> dict[str, tuple[int, Callable[[int], object]]]:
    """Clips of a call, and what makes them of video ``index``, by name."""
    first = build_dataset(args, args.folder, 1)
    paths = [info['filename'] for info in map(first.get_data_info, range(len(first)))]
    ways = {'peer': (1, lambda index: peer_clip(paths[index]))}
    for repeats in args.repeats:
        watched = build_dataset(args, args.folder, repeats)
        direct = build_dataset(args, args.folder, repeats)
        direct.pipeline.transforms[0].timeout = None
        add_way(ways, f'R = {repeats}', watched)
        add_way(ways, f'R = {repeats}, in the worker itself', direct)
        if args.rewritten:
            rewritten = build_dataset(args, args.rewritten, repeats)
            add_way(ways, f'R = {repeats}, rewritten', rewritten)
            direct = build_dataset(args, args.rewritten, repeats)
            direct.pipeline.transforms[0].timeout = None
            add_way(ways, f'R = {repeats}, rewritten, in the worker itself', direct)
    return ways


def add_way(ways: dict, name: str, dataset: BaseDataset) -> None:
    """The pipeline of a data set."""
    ways[name] = dataset.num_repeats, lambda index: pipeline_clips(dataset, index)


def measure(ways: dict, videos: int, args: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds per clip of each way, draw by draw; the first round warms up.

    Ways take turns after a round of two clips of each video, since a worker makes clips in one way
    only: after each change of way, caches are cold, and those of two processes more than of one.
    """
    times: dict[str, list[float]] = {name: [] for name in ways}
    names, each = list(ways), 2 * videos
    for turn in range(-1, -(-args.draws // each)):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            repeats, make = ways[name]
            for draw in range(turn * each, min((turn + 1) * each, args.draws)):
                seed(args.seed + draw + each)
                begin = time.perf_counter()
                make(draw % videos)
                if draw >= 0:
                    times[name].append((time.perf_counter() - begin) / repeats)
    return times


def summarize(times: dict[str, list[float]]) -> list[dict]:
    """Medians over draws, and the rate beside the peer's, of means: videos differ in length."""
    peer = np.array(times['peer'])
    rows = []
    for name, values in times.items():
        values = np.array(values)
        rows.append(
            {
                'clips': name,
                'ms per clip': round(1e3 * float(np.median(values)), 1),
                'clips per s': round(1 / float(np.median(values)), 1),
                'beside the peer': round(float(np.median(peer / values)), 2),
            }
        )
    return rows


def watching(times: dict[str, list[float]]) -> list[dict]:
    """What the watched process costs: the median of ratios, draw by draw."""
    return [
        {
            'clips': name,
            'watched / in the worker itself': round(
                float(np.median(np.array(times[name]) / np.array(values))), 3
            ),
        }
        for other, values in times.items()
        if other.endswith(', in the worker itself')
        for name in [other.removesuffix(', in the worker itself')]
    ]


def profile(args: argparse.Namespace, folder: str, repeats: int) -> dict:
    """Milliseconds per clip of each step, in the worker itself, medians over draws."""
    dataset = build_dataset(args, folder, repeats)
    dataset.pipeline.transforms[0].timeout = None
    sample, decode, rest = split(dataset.pipeline)
    steps: dict[str, list[float]] = {}
    convert = PyavReader._write
    converting = [0.0]

    def timed_convert(self, frame, out):
        begin = time.perf_counter()
        convert(self, frame, out)
        converting[0] += time.perf_counter() - begin

    PyavReader._write = timed_convert
    try:
        for draw in range(args.draws):
            seed(args.seed + draw)
            results = dataset.get_data_info(draw % len(dataset))
            spent: dict[str, float] = {}
            converting[0] = 0.0
            for transform in (dataset.pipeline.transforms[0], *sample, decode, *rest):
                begin = time.perf_counter()
                results = transform(results)
                spent[type(transform).__name__] = time.perf_counter() - begin
            spent[type(decode).__name__] -= converting[0]
            spent['convert to RGB'] = converting[0]
            for name, value in spent.items():
                steps.setdefault(name, []).append(value)
    finally:
        PyavReader._write = convert
    return {name: round(1e3 * float(np.median(values)), 2) for name, values in steps.items()}


def run(args: argparse.Namespace) -> dict:
    """Measure, on one core, and return all figures."""
    cores, threads = os.sched_getaffinity(0), torch.get_num_threads()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)  # as in a worker
    os.sched_setaffinity(0, {max(cores)})  # the decoder's process inherits it
    try:
        ways = ways_of(args)
        videos = len(build_dataset(args, args.folder, 1))
        times = measure(ways, videos, args)
        steps = [{'videos': 'as they are'} | profile(args, args.folder, 1)]
        if args.rewritten:
            steps.append({'videos': 'rewritten'} | profile(args, args.rewritten, 1))
    finally:
        os.sched_setaffinity(0, cores)
        torch.set_num_threads(threads)
    return dict(
        date=str(date.today()),
        machine=f'{platform.machine()}, {os.cpu_count()} cores, one used',
        config=args.config,
        draws=args.draws,
        rates=summarize(times),
        watching=watching(times),
        steps=steps,
    )


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    args = parse_args(argv)
    try:
        figures = run(args)
    except (ConfigError, FileNotFoundError) as error:
        fail(error)
    print(f'{figures["config"]}, {figures["machine"]}, {figures["date"]}')
    print(f'medians of {figures["draws"]} draws; steps in milliseconds per clip, R = 1')
    for name in ('rates', 'watching', 'steps'):
        rows = figures[name]
        print('\n' + markdown_table(list(rows[0]), [list(row.values()) for row in rows]))
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + '\n')


if __name__ == '__main__':
    main()
