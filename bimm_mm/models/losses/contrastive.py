"""Contrastive loss between two sets of vectors, over all processes."""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.distributed.nn.functional import all_gather


def gather_with_gradient(x: Tensor) -> Tensor:
    """Concatenate the rows (B, ...) of all processes, in the order of their ranks.

    The gradient of a row flows back to the process that it came from, summed over the processes
    that used it. Every process must call it, with rows of the same shape. Without processes it
    returns ``x``.
    """
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return x
    return torch.cat(all_gather(x.contiguous()))


def cosines(x: Tensor, y: Tensor) -> Tensor:
    """Multiply vectors of length 1, (B, C) and (N, C), to (B, N), in float32.

    Also within autocast: bfloat16 has too few digits for what is divided by a temperature.
    """
    with torch.autocast(x.device.type, enabled=False):
        return x @ y.T


def contrastive_loss(
    queries: Tensor, keys: Tensor, temperature: float | Tensor = 0.1, among_queries: bool = False
) -> tuple[Tensor, Tensor]:
    """Find for each query its own key among the keys of all processes (InfoNCE).

    Args:
        queries: (B, C), normalized here to length 1.
        keys: (B, C), likewise; row i belongs to query i.
        temperature: What cosines are divided by.
        among_queries: Whether the other queries are candidates, too (SimCLR's form).

    Returns:
        The cross-entropy, averaged over the queries of this process, whose average over processes
        is that of the whole batch; and the share of queries whose key is found.
    """
    queries, keys = F.normalize(queries.float(), dim=1), F.normalize(keys.float(), dim=1)
    everyone = gather_with_gradient(keys)  # (processes * B, C)
    rank = dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
    own = torch.arange(len(queries), device=queries.device) + rank * len(queries)
    logits = cosines(queries, everyone)
    if among_queries:
        others = cosines(queries, gather_with_gradient(queries))
        itself = F.one_hot(own, others.shape[1]).bool()
        logits = torch.cat([logits, others.masked_fill(itself, -torch.inf)], dim=1)
    logits = logits / temperature
    found = (logits.detach().argmax(dim=1) == own).float().mean()
    return F.cross_entropy(logits, own), found


def matching_loss(
    queries: Tensor, keys: Tensor, groups: Tensor, temperature: float | Tensor
) -> tuple[Tensor, Tensor]:
    """Match queries and keys in both directions, where several keys may be right (InfoNCE).

    In each direction: the negative logarithm of the share that the right candidates have in the
    sum of exp(cosine / temperature) over the candidates of all processes; both are averaged.

    Args:
        queries: (B, C), normalized here to length 1.
        keys: (B, C), likewise.
        groups: (B,) long: row i of one side matches row j of the other where groups are equal.
            Rows with a negative one are left out.
        temperature: What cosines are divided by.

    Returns:
        The loss, whose average over processes is that of the whole batch, 0 if all rows are left
        out; and the share of rows, of both directions, whose best candidate is a right one.
    """
    sides = [F.normalize(side.float(), dim=1) for side in (queries, keys)]
    everyone = [gather_with_gradient(side) for side in sides]  # (processes * B, C) each
    with torch.no_grad():
        all_groups = gather_with_gradient(groups)
        right = groups[:, None] == all_groups  # (B, processes * B)
        counts = groups >= 0
        # averages are over the rows of all processes that count
        share = len(everyone[0]) / len(groups) / (all_groups >= 0).sum().clamp_min(1)
    losses, found = [], []
    for own, candidates in zip(sides, reversed(everyone), strict=True):
        logits = cosines(own, candidates) / temperature
        logits = logits.masked_fill((all_groups < 0)[None], -torch.inf)
        wanted = logits.masked_fill(~right, -torch.inf)
        # rows that are left out get finite numbers, as 0 times infinity would be none
        logits, wanted = (torch.where(counts[:, None], x, 0.0) for x in (logits, wanted))
        values = logits.logsumexp(dim=1) - wanted.logsumexp(dim=1)
        losses.append((values * counts).sum() * share)
        best = logits.detach().argmax(dim=1, keepdim=True)
        found.append((right.gather(1, best)[:, 0] & counts).sum() * share)
    return (losses[0] + losses[1]) / 2, (found[0] + found[1]) / 2
