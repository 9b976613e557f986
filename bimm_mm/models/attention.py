"""Attention is torch's, but for a backward pass that products alone take faster."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

# of a CPU with AMX, where the backward pass of torch 2.11 is slow in bfloat16
FAST_PRODUCTS = getattr(torch.cpu, 'get_capabilities', dict)().get('amx_bf16', False)
WEIGHTS_AT_ONCE = 5_000_000  # attention weights that a CPU's cache may hold; torch's holds tiles


def dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None
) -> Tensor:
    """torch's ``scaled_dot_product_attention``.

    In bfloat16 on a CPU with AMX, without a mask and up to 2,236 tokens, its gradient is that of
    :class:`BackwardByProducts`.

    Args:
        query (Tensor): (B, heads, L, D).
        key (Tensor): (B, heads, S, D).
        value (Tensor): (B, heads, S, D).
        mask (Tensor, optional): True where a key may be looked at, broadcast to (B, heads, L, S).

    Returns:
        Tensor: (B, heads, L, D).
    """
    suits = (
        FAST_PRODUCTS
        and mask is None
        and query.device.type == 'cpu'
        and query.dtype == torch.bfloat16
        and torch.is_grad_enabled()
        and 0 < query.shape[2] * key.shape[2] <= WEIGHTS_AT_ONCE
    )
    if suits:
        return BackwardByProducts.apply(query, key, value)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


class BackwardByProducts(torch.autograd.Function):
    """Attention whose backward pass is five matrix products and a softmax, some heads at a time.

    The forward pass is torch's. In bfloat16 the backward pass rounds the products of queries and
    keys, as attention that is written out does, and torch's kernel does not (docs/speed.md).
    """

    @staticmethod
    def forward(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(B, heads, L, D), and (B, heads, S, D) twice, to (B, heads, L, D)."""
        return F.scaled_dot_product_attention(query, key, value)

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Keep the inputs for the backward pass."""
        ctx.save_for_backward(*inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients of query, key and value."""
        query, key, value = ctx.saved_tensors
        scale = query.shape[-1] ** -0.5
        flat = [x.flatten(0, 1) for x in (query * scale, key, value, gradient)]
        results = [torch.empty_like(x) for x in flat[:3]]
        sizes = (query.shape[2], key.shape[2])
        heads = max(WEIGHTS_AT_ONCE // (sizes[0] * sizes[1]), 1)
        # memory of their own for all parts: fresh memory costs a CPU as much as a product
        room = query.new_empty(2, min(heads, len(flat[0])), *sizes)
        for q, k, v, g, dq, dk, dv in zip(*(x.split(heads) for x in flat + results), strict=True):
            weights, scores = room[:, : len(q)]
            torch.softmax(torch.bmm(q, k.mT, out=weights), dim=-1, out=weights)
            torch.bmm(weights.mT, g, out=dv)
            torch.bmm(g, v.mT, out=scores)
            torch._softmax_backward_data(scores, weights, -1, scores.dtype, grad_input=scores)
            torch.bmm(scores, k, out=dq)
            torch.bmm(scores.mT, q, out=dk)
        results[0] *= scale
        return tuple(x.unflatten(0, query.shape[:2]) for x in results)
