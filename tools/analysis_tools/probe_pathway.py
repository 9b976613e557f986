"""What each block of both encoders holds: linear probes, nearest neighbors, attention distance.

    python tools/analysis_tools/probe_pathway.py configs/bimm/demo/joint_shapes.py CHECKPOINT

Draws a chart over depth for each label, and writes its figures as JSON. On generated shapes the
labels are motion, shape and texture. For another labeled data set, give the pretraining config
``probe_train`` and ``probe_test``, loaders as in configs/bimm/demo/joint_shapes.py, and say
``--labels gt_label``. The ventral encoder sees the middle frame of a clip, and so cannot know how
anything moves: there, motion is a check of the probe. The dashed lines are a random encoder.
"""

import argparse
import json
from pathlib import Path

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import MODELS, init_default_scope
from torch import nn
from torch.utils.data import DataLoader

import bimm_mm  # noqa: F401
from bimm_mm.cli.arguments import add_config_options, fail, take_config_from_checkpoint
from bimm_mm.config.check import ConfigError
from bimm_mm.config.loading import merge_config
from bimm_mm.evaluation.analysis.attention_distance import attention_distance
from bimm_mm.evaluation.functional.accuracy import interval_at_half, label_name
from bimm_mm.evaluation.functional.features import block_features, labeled_loaders
from bimm_mm.evaluation.functional.knn import knn_accuracy
from bimm_mm.evaluation.functional.linear_probe import fit_linear_probe
from bimm_mm.models.checkpoints import load_encoder
from bimm_mm.visualization import save_figure


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'config', help="of pretraining, with probe_train and probe_test; default: the checkpoint's"
    )
    parser.add_argument(
        'checkpoint', nargs='?', help='that pretraining wrote, or an exported encoder'
    )
    parser.add_argument(
        '--labels', nargs='+', help="default: the config's probe_labels, or those of the shapes"
    )
    parser.add_argument('--branches', nargs='+', choices=('ventral', 'dorsal'))
    parser.add_argument('--out-dir', type=Path, default='work_dirs/pathway')
    parser.add_argument('--k', type=int, default=20, help='nearest neighbors; default: 20')
    add_config_options(parser, 'probe_test.batch_size=16')
    args = parser.parse_intermixed_args()
    take_config_from_checkpoint(args)
    if args.checkpoint is None:
        parser.error('the checkpoint is missing')
    return args


def build_encoder(cfg: Config, branch: str, checkpoint: str | None) -> nn.Module:
    """The encoder of a branch; with random weights where there is no checkpoint."""
    backbone = dict(cfg.model[branch].backbone, out_type='raw', init_cfg=None)
    backbone['out_indices'] = 'stages'
    torch.manual_seed(0)
    encoder = MODELS.build(backbone)
    if checkpoint is not None:
        load_encoder(encoder, checkpoint, branch)
    return encoder.to(get_device())


def study(
    encoder: nn.Module,
    preprocessor: nn.Module,
    loaders: list[DataLoader],
    labels: list[str],
    k: int,
) -> dict:
    """Probe and neighbors after each block, 0 being the embedded patches, and attention."""
    (train, y), (test, y_test) = (
        block_features(encoder, preprocessor, loader, labels) for loader in loaders
    )
    result: dict = dict(probe={}, knn={}, error={}, chance={}, tested=len(test[0]))
    for label in labels:
        pairs = [((a, y[label]), (b, y_test[label])) for a, b in zip(train, test, strict=True)]
        scores = [fit_linear_probe(*pair) for pair in pairs]
        result['probe'][label] = [score.value for score in scores]
        result['error'][label] = [score.error for score in scores]
        result['chance'][label] = scores[0].chance
        result['knn'][label] = [
            knn_accuracy(*pair, k=min(k, len(y[label]))).value for pair in pairs
        ]
    x = preprocessor(next(iter(loaders[1])))['inputs'][:16]
    x = x if encoder.is_video or x.dim() == 4 else x[:, :, x.shape[2] // 2]
    space, time = attention_distance(encoder, x)
    result.update(attention_pixels=space.tolist(), attention_frames=time.tolist())
    return result


def draw(results: dict, labels: list[str]) -> Figure:
    """A row per branch: probes, nearest neighbors, attention in space and in time."""
    figure = Figure(figsize=(15, 3.3 * len(results) + 0.3), dpi=85, layout='constrained')
    FigureCanvasAgg(figure)
    rows = figure.subplots(len(results), 4, squeeze=False)
    for row, (branch, found) in zip(rows, results.items(), strict=True):
        trained, random, ends = found['trained'], found['random'], found['stage_ends']
        depth = range(len(trained['probe'][labels[0]]))
        for panel, kind, title in zip(
            row, ('probe', 'knn'), ('linear probe', 'k-NN'), strict=False
        ):
            for color, label in enumerate(labels):
                style = dict(color=f'C{color}')
                percent = [100 * value for value in trained[kind][label]]
                panel.plot(depth, percent, 'o-', label=label_name(label), **style)
                percent = [100 * value for value in random[kind][label]]
                panel.plot(depth, percent, '--', alpha=0.6, **style)
                chance = 100 * trained['chance'][label]
                panel.plot(depth[-1] + 0.25, chance, marker='<', markersize=5, **style)
            panel.set(title=f'{branch}: {title}', ylabel='accuracy in %', ylim=(0, 103))
            panel.legend(fontsize=8, frameon=False)
        for panel, key, unit in zip(
            row[2:], ('attention_pixels', 'attention_frames'), ('pixels', 'frames'), strict=True
        ):
            for source, color, name in ((trained, 'C3', 'trained'), (random, '0.6', 'random')):
                for block, heads in enumerate(source[key], start=1):
                    panel.plot([block] * len(heads), heads, 'o', color=color, markersize=3)
                means = [sum(heads) / len(heads) for heads in source[key]]
                panel.plot(range(1, len(means) + 1), means, '-', color=color, label=name)
            panel.set(title=f'{branch}: attention distance', ylabel=unit)
            highest = max(max(heads) for of in (trained, random) for heads in of[key])
            panel.set_ylim(0, 1.08 * highest or 1)
            panel.legend(fontsize=8, frameon=False)
        if not any(map(any, trained['attention_frames'])):  # an image has no other frame
            row[3].remove()
        for panel in row[: 4 if row[3] in figure.axes else 3]:
            panel.set(xlabel='block (0: embedded patches)', xticks=depth)
            panel.grid(alpha=0.25)
            for end in ends:
                panel.axvline(end, color='0.85', linewidth=6, zorder=0)
    tested = next(iter(results.values()))['trained']['tested']
    figure.suptitle(
        'Solid: trained; dashed: random encoder; triangles: chance; a red dot is a head; gray: '
        f'ends of the stages. Tested on {tested} samples: {interval_at_half(tested)}',
        fontsize=9,
    )
    return figure


def main() -> None:
    """Probe the blocks of each branch, and draw."""
    args = parse_args()
    try:
        cfg = merge_config(args.config, args.cfg_options, args.checkpoint)
        init_default_scope(cfg.get('default_scope') or 'mmengine')
        branches = args.branches or [name for name in ('ventral', 'dorsal') if name in cfg.model]
        missing = [name for name in branches if name not in cfg.model]
        if missing or not branches:
            raise ConfigError(f'the model of {cfg.filename} has no branch {" or ".join(missing)}')
        labels = args.labels or cfg.get('probe_labels') or ['motion', 'shape', 'texture']
        loaders = labeled_loaders(cfg)
        default = dict(type='ClipDataPreprocessor')
        preprocessor = MODELS.build(cfg.model.get('data_preprocessor') or default).to(get_device())
        results = {}
        for branch in branches:
            results[branch] = dict(stage_ends=list(build_encoder(cfg, branch, None).stage_ends))
            for kind, checkpoint in (('trained', args.checkpoint), ('random', None)):
                encoder = build_encoder(cfg, branch, checkpoint)
                results[branch][kind] = study(encoder, preprocessor, loaders, labels, args.k)
    except (ValueError, OSError) as error:  # ConfigError is a ValueError
        fail(error)
    print(save_figure(draw(results, labels), args.out_dir / 'pathway.png'))
    path = args.out_dir / 'pathway.json'
    path.write_text(json.dumps(results, indent=1))
    print(path)


if __name__ == '__main__':
    main()
