r"""How much memory a pretraining step needs, and which batch fits on a GPU.

Counts, for the model of a config, what autograd keeps for the backward pass, tensor by tensor, and
adds weights, gradients and the optimizer's state. Nothing is computed; only weights take memory.
``--step`` runs real steps on this machine instead and prints the peak. Examples::

    python tools/analysis_tools/memory.py configs/bimm/joint_k400_vitl.py --gpu-memory 24 80
    python tools/analysis_tools/memory.py configs/bimm/joint_k400_vitb.py --step --batch-size 2
    torchrun --nproc-per-node 2 tools/analysis_tools/memory.py CONFIG --step
"""

import argparse
import os
import resource
import warnings

import torch
from mmengine.config import Config
from mmengine.model.wrappers import MMFullyShardedDataParallel
from mmengine.optim import OptimWrapper

from bimm_mm.cli.arguments import add_config_options, fail
from bimm_mm.config.check import ConfigError
from bimm_mm.config.loading import merge_config
from bimm_mm.engine.strategies.fsdp import wrap_unshared_blocks
from bimm_mm.engine.strategies.fsdp2 import shard_blocks
from bimm_mm.evaluation.analysis.memory import (
    GB,
    RESERVE,
    autocast,
    build,
    count_terms,
    largest_batch,
    make_batch,
)
from bimm_mm.utils.tables import markdown_table


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config of pretraining')
    parser.add_argument('--gpus', type=int, default=8, help='default: 8')
    parser.add_argument(
        '--gpu-memory', type=float, nargs='+', default=[24, 80], metavar='GB', help='24 80'
    )
    parser.add_argument('--step', action='store_true', help='run steps here, print the peak')
    parser.add_argument('--batch-size', type=int, default=2, help='of --step; default: 2')
    parser.add_argument('--accumulate', type=int, default=1, help='batches per step of --step')
    parser.add_argument('--with-cp', action='store_true', help='checkpoint activations in --step')
    parser.add_argument(
        '--fsdp', type=int, choices=(1, 2), default=2, help='under torchrun; default: 2'
    )
    parser.add_argument('--bf16', action='store_true', help='autocast to bfloat16 in --step')
    add_config_options(parser, 'model.share=none')
    args = parser.parse_args(argv)
    for name in ('gpus', 'batch_size', 'accumulate'):
        if getattr(args, name) < 1:
            parser.error(f'--{name.replace("_", "-")} {getattr(args, name)} must be at least 1')
    return args


def print_tables(cfg: Config, args: argparse.Namespace) -> None:
    """What is counted, and what follows for GPUs."""
    rows = count_terms(cfg)
    print(f'{rows[0]["parameters"] / 1e6:.1f} M parameters\n')
    columns = [f'{gb:g} GB, {kind}' for gb in args.gpu_memory for kind in ('DDP', 'FSDP')]
    table = []
    for row in rows:
        cells = [
            'bfloat16' if row['bf16'] else 'float32',
            'yes' if row['with_cp'] else 'no',
            f'{row["per_sample"] / GB:.2f}',
        ]
        for gb in args.gpu_memory:
            for shards in (1, args.gpus):
                state, batch = largest_batch(row, gb, shards)
                cells.append(f'{batch} ({state:.1f})' if batch else f'no ({state:.1f})')
        table.append(cells)
    print(markdown_table(['precision', 'checkpointing', 'GB per sample', *columns], table))
    print(
        f'\nLargest batch per GPU of {args.gpus}, and in parentheses the GB that do not depend on '
        f'it. {RESERVE:g} GB are kept free.'
    )


def run_steps(cfg: Config, args: argparse.Namespace) -> None:
    """Two optimizer steps in this process, or in each of torchrun's; print the peak of memory."""
    start = resident()
    model = build(cfg, args.with_cp)
    world = int(os.environ.get('WORLD_SIZE', 1))
    if world > 1:
        torch.distributed.init_process_group('gloo')
        if args.fsdp == 1:
            model = MMFullyShardedDataParallel(
                model, device_id=torch.device('cpu'), auto_wrap_policy=wrap_unshared_blocks
            )
        else:
            shard_blocks(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    wrapper = OptimWrapper(optimizer, accumulative_counts=args.accumulate)
    for _ in range(2 * args.accumulate):
        with autocast(args.bf16):
            model.train_step(dict(inputs=make_batch(cfg, args.batch_size)), wrapper)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GB
    sharding = f', FSDP {args.fsdp}' if world > 1 else ''
    print(
        f'batch {args.batch_size} x {args.accumulate}, with_cp={args.with_cp}, bf16={args.bf16}, '
        f'{world} process(es){sharding}: peak {peak:.2f} GB, '
        f'of which {start:.2f} GB before the model',
        flush=True,
    )
    if world > 1:
        torch.distributed.destroy_process_group()


def resident() -> float:
    """GB that this process occupies now."""
    with open('/proc/self/statm') as file:
        return int(file.read().split()[1]) * resource.getpagesize() / GB


def main(argv: list[str] | None = None) -> None:
    """Count, or measure."""
    args = parse_args(argv)
    warnings.filterwarnings('ignore', category=UserWarning)
    try:
        cfg = merge_config(args.config, args.cfg_options)
        if not {'ventral', 'dorsal'} & set(cfg.model):
            raise ConfigError(f'{args.config}: its model has no branch; is it for pretraining?')
    except ConfigError as error:
        fail(error)
    (run_steps if args.step else print_tables)(cfg, args)


if __name__ == '__main__':
    main()
