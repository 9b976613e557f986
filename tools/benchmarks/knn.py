"""Nearest-neighbor accuracy of a frozen encoder: what pretraining learned, without training.

With a pretraining config that has ``probe_train`` and ``probe_test`` (configs/bimm/demo), the
encoder is that of a branch, and its feature the mean token. With a recognition config, such as
linear_k400_vitb.py, it is the config's backbone, and the videos of the training list are read as
those of the validation list are: one clip, center crop, no augmentation.
"""

import argparse
import copy

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import MODELS, init_default_scope
from torch import nn

import bimm_mm  # noqa: F401
from bimm_mm.cli.arguments import add_config_options, fail, take_config_from_checkpoint
from bimm_mm.config.check import ConfigError
from bimm_mm.config.loading import read_config
from bimm_mm.evaluation.functional.features import encode_labeled, labeled_loaders
from bimm_mm.evaluation.functional.knn import knn_accuracy
from bimm_mm.models.checkpoints import load_encoder


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        'config',
        help="of recognition, or with probe_train and probe_test; default: the checkpoint's own",
    )
    parser.add_argument(
        'checkpoint',
        nargs='?',
        help='of pretraining, of finetuning or an exported encoder; default: random weights',
    )
    parser.add_argument(
        '--branch',
        choices=('dorsal', 'ventral'),
        default='dorsal',
        help='of a pretraining config or checkpoint; default: %(default)s',
    )
    parser.add_argument(
        '--label', default='gt_label', help="the samples' class; default: %(default)s"
    )
    parser.add_argument('--k', type=int, default=20, help='neighbors; default: %(default)s')
    parser.add_argument(
        '--temperature', type=float, default=0.07, help='of their votes; default: %(default)s'
    )
    add_config_options(parser, 'val_dataloader.batch_size=4')
    args = parser.parse_intermixed_args()
    take_config_from_checkpoint(args)
    return args


def build_encoder(cfg: Config, branch: str) -> tuple[nn.Module, nn.Module]:
    """The encoder, without weights of a checkpoint, and what prepares its batches.

    Raises:
        ConfigError: The config has no such branch, or its backbone gives more than one feature
            per clip.
    """
    default = dict(type='ClipDataPreprocessor')
    preprocessor = MODELS.build(cfg.model.get('data_preprocessor') or default)
    if 'backbone' in cfg.model:
        backbone = copy.deepcopy(cfg.model.backbone)
        if backbone.get('out_type') not in ('cls_token', 'avg_featmap'):
            raise ConfigError(
                f"model.backbone.out_type={backbone.get('out_type')!r} must be 'cls_token' or "
                "'avg_featmap'"
            )
    elif branch in cfg.model:
        backbone = dict(copy.deepcopy(cfg.model[branch].backbone), out_type='avg_featmap')
        backbone.pop('out_indices', None)
    else:
        raise ConfigError(f'--branch {branch}: the model of {cfg.filename} has no such branch')
    backbone['init_cfg'] = None
    return MODELS.build(backbone), preprocessor


def main() -> None:
    """Encode both sets, and print the accuracy."""
    args = parse_args()
    try:
        cfg = read_config(args.config, args.cfg_options, 'none', None, args.checkpoint)
        init_default_scope(cfg.get('default_scope') or 'mmengine')
        torch.manual_seed(0)  # for random weights
        encoder, preprocessor = build_encoder(cfg, args.branch)
        if args.checkpoint:
            load_encoder(encoder, args.checkpoint, args.branch)
        device = get_device()
        encoder, preprocessor = encoder.to(device), preprocessor.to(device)
        train, test = (
            encode_labeled(encoder, preprocessor, loader, args.label)
            for loader in labeled_loaders(cfg)
        )
        k = min(args.k, len(train[0]))  # of a handful of videos
        score = knn_accuracy(train, test, k, args.temperature)
    except (ValueError, OSError) as error:  # ConfigError is a ValueError
        fail(error)
    low, high = score.interval
    print(
        f'{args.label}: {score.value:.1%} of {score.count} samples (95 % interval {low:.1%} to '
        f'{high:.1%}), k = {k} (chance {score.chance:.1%})'
    )


if __name__ == '__main__':
    main()
