"""Show what a pretrained model reconstructs: originals, masks, targets and predictions.

For each video, NAME.png shows some frames of every stage of every branch, NAME.gif all of them::

    python tools/visualization/reconstruct.py CHECKPOINT video.mp4 --out-dir pictures

A folder stands for some videos in it. The config is the one that the checkpoint was trained with;
another may be given before the checkpoint. Images work where there is a ventral branch. Without any
file, samples of the config's own training data are shown. Where the config reads contours from a
cache, the picture shows edges as the target, as the cache knows only the training videos.
"""

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.registry import DATASETS, MODELS, init_default_scope

import bimm_mm  # noqa: F401
from bimm_mm.cli.arguments import add_config_options, fail, take_config_from_checkpoint
from bimm_mm.config.check import ConfigError
from bimm_mm.config.loading import merge_config
from bimm_mm.models import BasePretrainer, ContourTarget, EdgeContourTarget
from bimm_mm.models.checkpoints import check_fit, forget_initialization, read_checkpoint
from bimm_mm.utils.media import VIDEOS, list_media
from bimm_mm.visualization import (
    animate_reconstruction,
    draw_reconstruction,
    read_clip,
    read_image,
    save_animation,
    save_figure,
)


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage='%(prog)s [CONFIG] CHECKPOINT [VIDEO ...] [OPTIONS]',
    )
    parser.add_argument('config', help="of pretraining; default: the checkpoint's own")
    parser.add_argument('checkpoint', nargs='?', help='of pretraining, with its decoders')
    parser.add_argument('files', nargs='*', metavar='VIDEO', help='videos, images or folders')
    parser.add_argument('--out-dir', type=Path, default='work_dirs/reconstructions')
    parser.add_argument(
        '--interval', type=int, help="frames from one to the next; default: the config's"
    )
    parser.add_argument('--start', type=int, help='first frame; default: the clip is in the middle')
    parser.add_argument(
        '--samples', type=int, default=4, help='of each folder, or without files; default: 4'
    )
    parser.add_argument('--seed', type=int, default=0, help='of the masks; default: 0')
    parser.add_argument('--no-gif', action='store_true', help='pictures only')
    parser.add_argument(
        '--predictions-alone',
        action='store_true',
        help='leave patches gray that were not predicted, instead of showing the target there',
    )
    add_config_options(parser, 'train_dataloader.dataset.data_root=/path/to/videos')
    args = parser.parse_intermixed_args()  # files may follow options
    take_config_from_checkpoint(args, 'files')
    if args.checkpoint is None:
        parser.error('the checkpoint is missing')
    for name, low in (('interval', 1), ('start', 0), ('samples', 1)):
        value = getattr(args, name)
        if value is not None and value < low:
            parser.error(f'--{name} {value} must be at least {low}')
    return args


def load_model(cfg: Config, checkpoint: str) -> BasePretrainer:
    """The pretrainer of a config with the weights of a checkpoint.

    Raises:
        ConfigError: The config is not one of pretraining.
        FileNotFoundError: There is no such checkpoint.
        ValueError: It has no decoders, or does not fit.
    """
    forget_initialization(cfg.model)
    model = MODELS.build(cfg.model)
    if not isinstance(model, BasePretrainer):
        name = cfg.filename or f'that of {checkpoint}'
        raise ConfigError(f'the config, {name}, is not one of pretraining: it has no decoders')
    state = read_checkpoint(checkpoint)['state_dict']
    prefixes = {
        name: 'neck.' if branch is model else f'{name}.neck.'
        for name, branch in model.branches.items()
    }
    missing = [
        name for name, prefix in prefixes.items() if not any(k.startswith(prefix) for k in state)
    ]
    if missing:
        raise ValueError(
            f'{checkpoint} holds no decoders of the {" and the ".join(missing)} branch, and '
            'without them nothing can be reconstructed: random ones would draw noise. An exported '
            'encoder and a finetuned model have none. Give the checkpoint that pretraining wrote.'
        )
    check_fit(model, state, checkpoint)
    model.load_state_dict(state, strict=False)
    for branch in model.branches.values():
        for index, target in enumerate(branch.targets):
            if isinstance(target, ContourTarget) and not isinstance(target, EdgeContourTarget):
                mean, std = (getattr(model.data_preprocessor, k).tolist() for k in ('mean', 'std'))
                branch.targets[index] = EdgeContourTarget(
                    patch_size=target.patch_size, mean=mean, std=std
                )
    return model.eval().to(get_device())


def interval_of(cfg: Config) -> int:
    """Frames from one to the next in the config's own clips; 1 where it does not say."""
    pipeline = cfg.train_dataloader.dataset.get('pipeline') or []
    return next((t.frame_interval for t in pipeline if 'frame_interval' in t), 1)


def read_input(model: BasePretrainer, path: str, interval: int, start: int | None) -> tuple:
    """A file as (1, 3, T, H, W) or (1, 3, H, W), and the branches that can take it.

    Raises:
        ValueError: No branch can.
    """
    videos = {name: branch for name, branch in model.branches.items() if branch.is_video}
    images = [name for name in model.branches if name not in videos]
    is_video = path.lower().endswith(VIDEOS)
    if not is_video and not images:
        raise ValueError(f'{path} is an image, or has no ending of a video; the model needs videos')
    backbone = next(iter((videos or model.branches).values())).backbone
    length, *size = (n * p for n, p in zip(backbone.grid_size, backbone.patch_size, strict=True))
    if is_video:
        pixels = read_clip(path, length, interval, tuple(size), start)
        return (pixels if videos else pixels[:, 0])[None], list(model.branches)
    return read_image(path, tuple(size))[None], images


def read_files(model: BasePretrainer, cfg: Config, args: argparse.Namespace) -> Iterator[tuple]:
    """Name, pixels and branches of each file."""
    interval = args.interval or interval_of(cfg)
    for path in files_of(args):
        yield path, *read_input(model, path, interval, args.start)


def files_of(args: argparse.Namespace) -> Iterator[str]:
    """The files that were given, and ``--samples`` videos of each folder, evenly spread."""
    for path in args.files:
        if Path(path).is_dir():
            found = list_media(path, VIDEOS)
            chosen = range(0, len(found), max(len(found) // args.samples, 1))
            if len(found) > args.samples:
                print(f'{args.samples} of {len(found)} videos in {path}; --samples sets how many')
            yield from (str(Path(path) / found[index]) for index in chosen[: args.samples])
        else:
            yield path


def read_samples(model: BasePretrainer, cfg: Config, args: argparse.Namespace) -> Iterator[tuple]:
    """The same of the first samples of the training data."""
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    for index in range(min(args.samples, len(dataset))):
        pixels = pseudo_collate([dataset[index]])['inputs']
        yield f'sample_{index}', pixels, list(model.branches)


def unused(stem: str, used: set[str]) -> str:
    """The name, with a number if it is in ``used`` already; it is noted there."""
    numbered = (stem if n == 1 else f'{stem}_{n}' for n in itertools.count(1))
    name = next(name for name in numbered if name not in used)
    used.add(name)
    return name


def main() -> None:
    """Draw a picture and an animation of each file."""
    args = parse_args()
    try:
        cfg = merge_config(
            args.config, args.cfg_options, args.checkpoint, ('model', 'train_dataloader')
        )
        init_default_scope(cfg.get('default_scope') or 'mmengine')
        model = load_model(cfg, args.checkpoint)
        stems: set[str] = set()
        everything = read_files(model, cfg, args) if args.files else read_samples(model, cfg, args)
        for name, pixels, branches in everything:
            inputs = model.data_preprocessor(dict(inputs=pixels))['inputs'][:1]
            torch.manual_seed(args.seed)
            with torch.no_grad():
                if len(branches) == len(model.branches):
                    results = model(inputs, mode='predict')
                else:  # an image for a model that also has a branch for clips
                    results = {key: model.branches[key](inputs) for key in branches}
            trained = Path(cfg.filename or cfg.get('work_dir') or '').stem
            title = f'{Path(name).name}: {trained}, {Path(args.checkpoint).name}'
            figure = draw_reconstruction(
                model, results, composite=not args.predictions_alone, title=title
            )
            stem = unused(Path(name).stem, stems)
            print(save_figure(figure, args.out_dir / f'{stem}.png'))
            if not args.no_gif and any(model.branches[key].is_video for key in branches):
                frames = animate_reconstruction(model, results, title=title)
                print(save_animation(frames, args.out_dir / f'{stem}.gif'), flush=True)
    except (ValueError, OSError) as error:  # ConfigError is a ValueError
        fail(error)


if __name__ == '__main__':
    main()
