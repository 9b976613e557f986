"""The gradients of the stages in the blocks they share: how large each is, and whether they agree.

    python tools/analysis_tools/stage_gradients.py configs/bimm/demo/joint_shapes.py CHECKPOINT

The blocks are those of the first stage, which all stages of a branch, and with sharing both
branches, pull at. A loss with a small norm is hardly heard; a negative cosine means that two losses
pull against each other. Averaged over some batches of the training data.
"""

import argparse
import json
from pathlib import Path

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from mmengine.device import get_device
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner, set_random_seed

import bimm_mm  # noqa: F401
from bimm_mm.cli.arguments import add_config_options, fail, take_config_from_checkpoint
from bimm_mm.config.check import ConfigError
from bimm_mm.config.loading import merge_config
from bimm_mm.evaluation.analysis.stage_gradients import compare_gradients, stage_gradients
from bimm_mm.models import BasePretrainer
from bimm_mm.models.checkpoints import check_fit, forget_initialization, read_checkpoint
from bimm_mm.visualization import save_figure


def draw(names: list[str], norms: torch.Tensor, cosines: torch.Tensor) -> Figure:
    """Bars for the norms, with their spread over batches, and a matrix of cosines."""
    mean, spread = norms.mean(0), norms.std(0, unbiased=False)
    cosine = cosines.mean(0)
    figure = Figure(figsize=(11, 4.2), dpi=90, layout='constrained')
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, gridspec_kw=dict(width_ratios=(1, 1.2)))
    left.barh(names, mean.tolist(), xerr=spread.tolist(), color='#1f6fb4', alpha=0.7)
    left.invert_yaxis()
    left.set(title='norm in the blocks of the first stage', xlim=(0, None))
    left.grid(axis='x', alpha=0.3)
    image = right.imshow(cosine.tolist(), cmap='RdBu', vmin=-1, vmax=1)
    right.set_xticks(range(len(names)), names, rotation=35, ha='right', fontsize=8)
    right.set_yticks(range(len(names)), names, fontsize=8)
    right.set_title('cosine')
    for row, values in enumerate(cosine.tolist()):
        for column, value in enumerate(values):
            color = 'white' if abs(value) > 0.6 else 'black'
            right.text(column, row, f'{value:.2f}', ha='center', va='center', color=color, size=8)
    figure.colorbar(image, ax=right, shrink=0.8)
    return figure


def main() -> None:
    """Measure, and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='of pretraining')
    parser.add_argument('checkpoint', nargs='?', help='default: random weights')
    parser.add_argument('--batches', type=int, default=8, help='default: %(default)s')
    parser.add_argument('--out-dir', type=Path, default='work_dirs/gradients')
    add_config_options(parser, 'train_dataloader.batch_size=4')
    args = parser.parse_intermixed_args()
    take_config_from_checkpoint(args)
    if args.batches < 1:
        parser.error(f'--batches {args.batches} must be at least 1')
    try:
        cfg = merge_config(
            args.config, args.cfg_options, args.checkpoint, ('model', 'train_dataloader')
        )
        init_default_scope(cfg.get('default_scope') or 'mmengine')
        forget_initialization(cfg.model)
        set_random_seed(0)
        model = MODELS.build(cfg.model)
        if not isinstance(model, BasePretrainer):
            raise ConfigError(f'{cfg.filename} is no config of pretraining')
        if args.checkpoint:
            state = read_checkpoint(args.checkpoint)['state_dict']
            check_fit(model, state, args.checkpoint)
            model.load_state_dict(state, strict=False)
        model.to(get_device()).train()
        loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)
    except (ValueError, OSError) as error:  # ConfigError is a ValueError
        fail(error)
    found = []
    for _, batch in zip(range(args.batches), loader, strict=False):
        batch = model.data_preprocessor(batch, True)
        found.append(compare_gradients(stage_gradients(model, batch)))
    names = found[0][0]
    norms, cosines = (torch.stack([f[i] for f in found]) for i in (1, 2))
    print(save_figure(draw(names, norms, cosines), args.out_dir / 'gradients.png'))
    path = args.out_dir / 'gradients.json'
    content = dict(names=names, norms=norms.tolist(), cosines=cosines.tolist())
    path.write_text(json.dumps(content, indent=1))
    print(path)


if __name__ == '__main__':
    main()
