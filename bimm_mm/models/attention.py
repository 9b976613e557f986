"""Attention is torch's, but for the backward pass where products alone are faster."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

# of a CPU with AMX; torch 2.11's own backward pass takes up to five times as long there
FAST_PRODUCTS = getattr(torch.cpu, 'get_capabilities', dict)().get('amx_bf16', False)
WEIGHTS_AT_ONCE = 5_000_000  # attention weights, which should stay in a CPU's cache


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """torch's ``scaled_dot_product_attention``.

    In bfloat16 on a CPU with AMX, without a mask, :class:`BackwardByProducts` takes the gradient.

    Args:
        query (Tensor): (B, heads, L, D).
        key (Tensor): (B, heads, S, D).
        value (Tensor): (B, heads, S, D).
        mask (Tensor, optional): True where a key may be looked at, broadcast to (B, heads, L, S).

    Returns:
        Tensor: (B, heads, L, D).
    """
    on_cpu = query.device.type == 'cpu' and query.dtype == torch.bfloat16
    if FAST_PRODUCTS and on_cpu and mask is None and torch.is_grad_enabled():
        return BackwardByProducts.apply(query, key, value)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


class BackwardByProducts(torch.autograd.Function):
    """Attention whose backward pass is five matrix products and a softmax, some heads at a time.

    The forward pass is torch's. In bfloat16 the backward pass rounds the products of queries and
    keys, as attention that is written out does, and torch's kernel does not (docs/speed.md).
    """

    @staticmethod
    def forward(ctx: FunctionCtx, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(B, heads, L, D), and (B, heads, S, D) twice, to (B, heads, L, D)."""
        ctx.save_for_backward(query, key, value)
        return F.scaled_dot_product_attention(query, key, value)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients of query, key and value."""
        query, key, value = ctx.saved_tensors
        scale = query.shape[-1] ** -0.5
        flat = [x.flatten(0, 1) for x in (query * scale, key, value, gradient)]
        results = [torch.empty_like(x) for x in flat[:3]]
        heads = max(WEIGHTS_AT_ONCE // (query.shape[2] * key.shape[2]), 1)
        for q, k, v, g, dq, dk, dv in zip(*(x.split(heads) for x in flat + results), strict=True):
            weights = (q @ k.mT).softmax(dim=-1)
            torch.bmm(weights.mT, g, out=dv)
            scores = torch._softmax_backward_data(g @ v.mT, weights, -1, weights.dtype)
            torch.bmm(scores, k, out=dq)
            torch.bmm(scores.mT, q, out=dk)
        results[0] *= scale
        return tuple(x.unflatten(0, query.shape[:2]) for x in results)
