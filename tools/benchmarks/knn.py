"""Nearest-neighbour accuracy of a frozen encoder: what pretraining learned, without training.

The features of the validation videos are compared with those of the training videos, one centre
crop of one clip each.
"""

import argparse
import copy
import sys
from pathlib import Path

import torch
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner, load_checkpoint
from mmengine.utils import track_iter_progress
from torch import Tensor, nn
from torch.utils.data import DataLoader

import bimm_mm  # noqa: F401
from bimm_mm.engine.config_check import ConfigError, check_config, check_options, find_config
from bimm_mm.engine.probe import knn_accuracy


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='a recognition config, such as linear_k400_vitb.py')
    parser.add_argument(
        '--checkpoint',
        help="of a run of that config; without it, the encoder is the config's init_cfg",
    )
    parser.add_argument('--k', type=int, default=20, help='neighbours; default: %(default)s')
    parser.add_argument(
        '--temperature', type=float, default=0.07, help='of their weights; default: %(default)s'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        metavar='KEY=VALUE',
        help='override settings, e.g. model.backbone.init_cfg.checkpoint=encoder.pth',
    )
    return parser.parse_args()


def build_loaders(cfg: Config) -> dict[str, DataLoader]:
    """Loaders of the training and validation videos, both with the validation's pipeline."""
    val = cfg.val_dataloader
    train = copy.deepcopy(val)
    for key in ('data_root', 'ann_file', 'data_prefix'):
        train.dataset[key] = cfg.train_dataloader.dataset[key]
    return dict(train=Runner.build_dataloader(train), val=Runner.build_dataloader(val))


@torch.no_grad()
def encode(model: nn.Module, loader: DataLoader) -> tuple[Tensor, Tensor]:
    """Features (N, C) of the recognizer's backbone, and labels (N,), on the CPU."""
    features, labels = [], []
    for batch in track_iter_progress((loader, len(loader))):
        batch = model.data_preprocessor(batch)
        feats, _ = model.extract_feat(batch['inputs'], stage='backbone')
        if feats[-1].dim() != 2:
            raise ConfigError(
                "model.backbone.out_type must be 'cls_token' or 'avg_featmap', not "
                f'{model.backbone.out_type!r}'
            )
        features.append(feats[-1].float().cpu())
        labels += [int(sample.gt_label) for sample in batch['data_samples']]
    return torch.cat(features), torch.tensor(labels)


def main() -> None:
    """Encode both sets and print the accuracy."""
    args = parse_args()
    try:
        cfg = Config.fromfile(find_config(args.config))
        check_options(cfg, args.cfg_options)
        cfg.merge_from_dict(args.cfg_options)
        if args.checkpoint:
            if not Path(args.checkpoint).is_file():
                raise ConfigError(f'--checkpoint: no such file {args.checkpoint}')
            cfg.model.backbone.init_cfg = None
        check_config(cfg)
        init_default_scope(cfg.default_scope)
        model = MODELS.build(cfg.model)
        model.init_weights()
        if args.checkpoint:
            load_checkpoint(model, args.checkpoint, map_location='cpu')
        model.to(get_device()).eval()
        sets = {name: encode(model, loader) for name, loader in build_loaders(cfg).items()}
        score = knn_accuracy(sets['train'], sets['val'], args.k, args.temperature)
    except ValueError as error:  # ConfigError is one
        sys.exit(str(error))
    print(f'\n{args.k} nearest neighbours: top-1 {score.value:.2%} ± {score.error:.2%}')


if __name__ == '__main__':
    main()
