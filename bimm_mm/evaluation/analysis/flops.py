"""Multiply-adds of a model: of one view, of all views of a test, and of a training step."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from mmengine.config import ConfigDict
from torch import nn
from torch.utils.flop_counter import (
    FlopCounterMode,
    sdpa_backward_flop_count,
    sdpa_flop_count,
)

aten = torch.ops.aten
# torch's counter knows the attention kernels of GPUs only
CPU_ATTENTION = {
    aten._scaled_dot_product_flash_attention_for_cpu: (
        lambda q, k, v, *args, **kwargs: sdpa_flop_count(q, k, v)
    ),
    aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        lambda grad, q, k, v, *args, **kwargs: sdpa_backward_flop_count(grad, q, k, v)
    ),
}
CROPS = {'ThreeCrop': 3, 'TenCrop': 10}


@dataclass(frozen=True)
class Views:
    """Views of a clip in a test protocol.

    Attributes:
        clips: Clips of a video.
        crops: Crops of a clip.
        size: (T, H, W) of a view, or (H, W) of an image.
    """

    clips: int
    crops: int
    size: tuple[int, ...]


def count_multiply_adds(model: nn.Module, size: Sequence[int]) -> int:
    """Count the multiply-adds of one view: of the encoders and the classification head, if any.

    Both products of attention count, as in the paper's figures; biases, norms and activations do
    not. Decoders of a pretrainer, necks and heads of detectors are left out.

    Args:
        model: A pretrainer, a recognizer or detector with a ``backbone``, or a
            backbone; on the device 'meta' nothing is computed.
        size: (T, H, W) of a view, or (H, W) for image encoders. An image encoder
            next to a video encoder gets one frame.
    """
    model.eval()
    device = next(model.parameters()).device
    branches = getattr(model, 'branches', None)
    encoders = [b.backbone for b in branches.values()] if branches else [encoder_of(model)]
    head = getattr(model, 'cls_head', None) or getattr(model, 'head', None)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        for encoder in encoders:
            shape = tuple(size) if getattr(encoder, 'is_video', len(size) == 3) else size[-2:]
            features = encoder(torch.empty(1, 3, *shape, device=device))
            if head is not None:
                head(features)
    return counter.get_total_flops() // 2  # it counts a multiplication and an addition as two


def step_flops(step: Callable[[], object]) -> int:
    """Count the multiplications and additions of all matrix products of a training step.

    Those of the backward pass count, and what activation checkpoints compute once more. Compiled
    modules run uncompiled meanwhile, since the counter does not see into compiled code.

    Args:
        step: Runs forward and backward; called once.
    """
    eager = getattr(torch.compiler, 'set_stance', None)  # torch 2.6
    with eager('force_eager') if eager else nullcontext():
        with FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION) as counter:
            step()
    return counter.get_total_flops()


def encoder_of(model: nn.Module) -> nn.Module:
    """Return the backbone of a model, or the model itself if it is one."""
    return getattr(model, 'backbone', model)


def test_views(cfg: ConfigDict) -> Views:
    """Return the clips, crops and size that a config tests with.

    Clips and crops are read from the transforms of ``test_dataloader``; without one, there is one
    view. The size is that of the crops, else the backbone's ``num_frames`` and ``img_size``.
    """
    dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
    pipeline = [dict(t, type=t['type'].split('.')[-1]) for t in dataset.get('pipeline') or []]
    clips = crops = 1
    frames, size = _backbone_size(cfg.model)
    for transform in pipeline:
        kind = transform['type']
        if 'Sample' in kind:
            # DenseSampleFrames tests num_clips clips at each of num_sample_positions
            positions = 10 if kind == 'DenseSampleFrames' else 1
            clips = transform.get('num_clips', 1) * transform.get('num_sample_positions', positions)
            clips *= 2 if transform.get('twice_sample') else 1
            frames = transform.get('clip_len', frames)
        if 'crop_size' in transform:
            size = transform['crop_size']
            crops = CROPS.get(kind, 1)
    size = (size, size) if isinstance(size, int) else tuple(size)
    return Views(clips, crops, size if frames is None else (frames, *size))


test_views.__test__ = False  # its name is no reason for pytest to call it


def _backbone_size(model: ConfigDict) -> tuple[int | None, int | tuple[int, int]]:
    """``num_frames`` and ``img_size`` of the backbone that sees most."""
    branch = model.get('dorsal') or model.get('ventral') or model
    backbone = branch.get('backbone', branch)
    return backbone.get('num_frames'), backbone.get('img_size', 224)
