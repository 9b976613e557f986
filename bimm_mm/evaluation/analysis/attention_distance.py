"""Mean attention distance of every block and head."""

import math

import torch
from torch import Tensor, nn


@torch.no_grad()
def attention_distance(backbone: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean distance of attention, per block and head, in space and in time.

    The distance between the centers of two patches, weighted by attention, averaged over the
    tokens that look and over the samples (Dosovitskiy et al., 2021, figure 7). The class token is
    left out on both sides, and what is left of a row is scaled to a sum of 1.

    Args:
        backbone: :class:`BimmViT` with global attention.
        x: (B, 3, H, W) or (B, 3, T, H, W), normalized.

    Returns:
        (depth, heads) each, float32 on the CPU: in pixels, and in frames
        (0 for images).

    Raises:
        ValueError: The blocks attend in windows.
    """
    if backbone.window_size:
        raise ValueError(
            f'window_size={backbone.window_size} must be 0: attention has to be global'
        )
    training = backbone.training
    backbone.eval()
    x, grid = backbone.embed(x)
    count = math.prod(grid)
    places = torch.stack(
        torch.meshgrid(*(torch.arange(n, device=x.device) for n in grid), indexing='ij'), dim=-1
    )
    places = places.flatten(0, 2).float() * torch.tensor(backbone.patch_size, device=x.device)
    gap = places[:, None] - places[None]
    space, time = gap[..., 1:].norm(dim=-1), gap[..., 0].abs()
    distances = []
    for block in backbone.blocks:
        qkv = block.attn.qkv(block.norm1(x))
        qkv = qkv.unflatten(2, (3, block.attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
        query, key = (part[:, :, -count:] for part in qkv[:2])
        weight = (query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5).softmax(dim=-1)
        distances.append([(weight * d).sum(-1).mean(dim=(0, 2)).cpu() for d in (space, time)])
        x = block(x, grid)
    backbone.train(training)
    in_space, in_time = zip(*distances, strict=True)
    return torch.stack(in_space).float(), torch.stack(in_time).float()
