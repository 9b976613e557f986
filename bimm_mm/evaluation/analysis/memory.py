"""Memory of a pretraining step: what autograd keeps, counted without computing anything."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

GB = 1e9
# Kept free on a GPU for the CUDA context, workspaces and fragmentation: a guess, not measured.
RESERVE = 2.0


def build(cfg: Config, with_cp: bool) -> BaseModel:
    """Build the config's model, with or without activation checkpointing."""
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
    """Count the parameters, and the bytes that autograd keeps of a forward pass."""
    model = build(cfg, with_cp)
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            tensors.update((k, fake.from_tensor(v)) for k, v in tensors.items() if v is not None)
    with fake:
        data = model.data_preprocessor(dict(inputs=make_batch(cfg, batch_size)), training=True)
        with kept_storages(model) as storages, autocast(bf16):
            losses = model(**data, mode='loss')
            model.parse_losses(losses)
        count = sum(p.numel() for p in model.parameters())
        return count, sum(storage.nbytes() for storage in storages.values())


@contextmanager
def kept_storages(model: nn.Module) -> Iterator[dict[int, torch.UntypedStorage]]:
    """Collect the memory that autograd keeps for a backward pass, but for the model's parameters.

    Yields:
        Storages by their address, of real or fake tensors; filled within the context.
    """
    known = {p.untyped_storage()._cdata for p in model.parameters()}
    storages: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in known:
            storages[storage._cdata] = storage  # held, so that no address comes twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        yield storages


def count_terms(cfg: Config) -> list[dict]:
    """Count, for each option, parameters and the bytes kept per sample and in all."""
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
    """Return the GB per GPU that do not depend on the batch, and the samples that fit beside them.

    Weights, gradients and both moments of AdamW are 4 bytes each, 16 per parameter in all, of which
    each of ``shards`` processes keeps its part. 4 more come on top: with DDP (one shard) the
    buckets in which gradients travel; with FSDP the blocks that are shared by both branches, which
    a process holds as a whole while it computes, at most all weights: these are counted in full.
    """
    state = ((16 / shards + 4) * row['parameters'] + row['fixed']) / GB
    free = gpu_memory - RESERVE - state
    return state, max(int(free * GB / row['per_sample']), 0)
