"""Gradients of each stage's loss in the parameters that several stages share."""

import torch
from torch import Tensor, nn


def stage_gradients(model: nn.Module, batch: dict) -> dict[str, Tensor]:
    """Compute the gradient of every loss by itself in the blocks of the first stage.

    Those blocks are below all losses of a branch, and with sharing below those of both branches.
    Without sharing, the gradients of the two branches are in different parameters; each is set to
    zero in those of the other, so that all have one length.

    Args:
        model: A pretrainer.
        batch: What the model's preprocessor gave: inputs and side inputs.

    Returns:
        By the name of the loss without ``loss_``, (P,) float32 on the CPU. The
        weights of losses and branches are in it, as the optimizer sees it.
    """
    parameters: list[nn.Parameter] = []
    for branch in model.branches.values():
        blocks = branch.backbone.blocks[: branch.backbone.stage_ends[0]]
        parameters += [p for p in blocks.parameters() if not any(p is q for q in parameters)]
    outputs = model(**batch, mode='loss')
    result = {}
    for name, loss in outputs.items():
        if not name.startswith('loss_'):
            continue
        gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        parts = [
            torch.zeros_like(p) if g is None else g
            for p, g in zip(parameters, gradients, strict=True)
        ]
        result[name.removeprefix('loss_')] = torch.cat([p.flatten() for p in parts]).float().cpu()
    return result


def compare_gradients(gradients: dict[str, Tensor]) -> tuple[list[str], Tensor, Tensor]:
    """Return names, norms (n,) and cosines (n, n) of gradients; a cosine with zero is zero."""
    names = list(gradients)
    stack = torch.stack([gradients[name] for name in names]).double()
    norms = stack.norm(dim=1)
    unit = stack / norms.clamp_min(1e-30)[:, None]
    return names, norms, unit @ unit.T
