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
from contextlib import nullcontext

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.model.wrappers import MMFullyShardedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS
from torch import Tensor
from torch._subclasses import FakeTensorMode

from bimm_mm.cli.arguments import add_config_options, fail
from bimm_mm.config.check import ConfigError
from bimm_mm.config.loading import merge_config
from bimm_mm.engine.strategies.fsdp import wrap_unshared_blocks

GB = 1e9
# Kept free on a GPU for the CUDA context, workspaces and fragmentation: a guess, not measured.
RESERVE = 2.0


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
    parser.add_argument('--bf16', action='store_true', help='autocast to bfloat16 in --step')
    add_config_options(parser, 'model.share=none')
    args = parser.parse_args(argv)
    for name in ('gpus', 'batch_size', 'accumulate'):
        if getattr(args, name) < 1:
            parser.error(f'--{name.replace("_", "-")} {getattr(args, name)} must be at least 1')
    return args


def build(cfg: Config, with_cp: bool) -> BaseModel:
    """The config's model, with or without checkpoints of activations, untrained."""
    config = cfg.copy().model
    config.pop('init_dorsal_from', None)
    for branch in (config.get('ventral'), config.get('dorsal')):
        if branch is not None:
            branch.backbone.with_cp = with_cp
    return MODELS.build(config).train()


def make_batch(cfg: Config, batch_size: int) -> Tensor:
    """uint8 inputs as the model gets them: (B, 3 or 4, T, H, W) clips or (B, 3 or 4, H, W) images.

    The fourth channel is there where a target reads contours.
    """
    branches = [cfg.model[name] for name in ('ventral', 'dorsal') if name in cfg.model]
    targets = [target.type for branch in branches for target in branch.targets]
    backbone = branches[-1].backbone
    frames = [backbone.num_frames] if 'num_frames' in backbone else []
    size = backbone.get('img_size', 224)
    channels = 4 if 'CachedContourTarget' in targets else 3
    return torch.zeros(batch_size, channels, *frames, size, size, dtype=torch.uint8)


def autocast(bf16: bool):
    """Of the CPU; what is kept is the same as on a GPU, but for the statistics of attention."""
    return torch.autocast('cpu', torch.bfloat16) if bf16 else nullcontext()


def kept_bytes(cfg: Config, batch_size: int, with_cp: bool, bf16: bool) -> tuple[int, int]:
    """Number of parameters, and bytes that autograd keeps of a forward pass besides them."""
    model = build(cfg, with_cp)
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            tensors.update((k, fake.from_tensor(v)) for k, v in tensors.items() if v is not None)
    with fake:
        parameters = list(model.parameters())
        known = {p.untyped_storage()._cdata for p in parameters}
        storages = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in known:
                storages[storage._cdata] = storage  # held, so that no address comes twice
            return tensor

        data = model.data_preprocessor(dict(inputs=make_batch(cfg, batch_size)), training=True)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x), autocast(bf16):
            losses = model(**data, mode='loss')
            model.parse_losses(losses)
        count = sum(p.numel() for p in parameters)
        return count, sum(storage.nbytes() for storage in storages.values())


def count_terms(cfg: Config) -> list[dict]:
    """Per option: parameters, and bytes per sample and besides, kept for the backward pass."""
    rows = []
    for bf16 in (False, True):
        for with_cp in (False, True):
            parameters, one = kept_bytes(cfg, 1, with_cp, bf16)
            _, three = kept_bytes(cfg, 3, with_cp, bf16)
            sample = (three - one) / 2
            rows.append(
                dict(
                    bf16=bf16,
                    with_cp=with_cp,
                    parameters=parameters,
                    per_sample=sample,
                    fixed=max(one - sample, 0),
                )
            )
    return rows


def largest_batch(row: dict, gpu_memory: float, shards: int) -> tuple[float, int]:
    """What does not depend on the batch, in GB per GPU, and the samples that fit beside it.

    Weights, gradients and both moments of AdamW are 4 bytes each, 16 per parameter in all, of which
    each of ``shards`` processes keeps its part. 4 more come on top: with DDP (one shard) the
    buckets in which gradients travel; with FSDP the blocks that are shared by both branches, which
    a process holds as a whole while it computes, at most all weights: these are counted in full.
    """
    state = ((16 / shards + 4) * row['parameters'] + row['fixed']) / GB
    free = gpu_memory - RESERVE - state
    return state, max(int(free * GB / row['per_sample']), 0)


def print_tables(cfg: Config, args: argparse.Namespace) -> None:
    """What is counted, and what follows for GPUs."""
    rows = count_terms(cfg)
    print(f'{rows[0]["parameters"] / 1e6:.1f} M parameters\n')
    columns = [f'{gb:g} GB, {kind}' for gb in args.gpu_memory for kind in ('DDP', 'FSDP')]
    print('| precision | checkpointing | GB per sample | ' + ' | '.join(columns) + ' |')
    print('|---' * (3 + len(columns)) + '|')
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
        print('| ' + ' | '.join(cells) + ' |')
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
        model = MMFullyShardedDataParallel(
            model, device_id=torch.device('cpu'), auto_wrap_policy=wrap_unshared_blocks
        )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    wrapper = OptimWrapper(optimizer, accumulative_counts=args.accumulate)
    for _ in range(2 * args.accumulate):
        with autocast(args.bf16):
            model.train_step(dict(inputs=make_batch(cfg, args.batch_size)), wrapper)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GB
    print(
        f'batch {args.batch_size} x {args.accumulate}, with_cp={args.with_cp}, bf16={args.bf16}, '
        f'{world} process(es): peak {peak:.2f} GB, of which {start:.2f} GB before the model',
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
