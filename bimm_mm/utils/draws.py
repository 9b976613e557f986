"""Random numbers of samples that do not depend on how a batch is divided among processes.

A row of a global batch has a key made of the iteration's seed and the row's place in that batch,
and its numbers are a hash of key and counter, made on the device for all rows at once. So the
process that holds a row, and how many rows it holds beside it, do not matter. The hash is
SplitMix64's (Steele, Lea and Flood, 2014), applied to the row first and to the counter after it: a
dozen elementwise operations, no state, the same numbers on every device. One generator that draws
for the whole global batch would do as well, but every process would draw what 64 of them need, and
what is recomputed in the backward pass would need its state.

Outside of :func:`global_batch`, and where a generator is given, torch's own generators draw.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce
from torch import Tensor

GOLDEN = 0x9E3779B97F4A7C15
FACTORS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
SHIFTS = (30, 27, 31)
ALL = 2**64 - 1


@dataclass
class _GlobalBatch:
    seed: int
    rank: int
    processes: int
    calls: int = 0  # draws so far

    def next_key(self) -> int:
        self.calls += 1
        return mix(self.seed + self.calls * GOLDEN)


_current: _GlobalBatch | None = None


@contextmanager
def global_batch(seed: int, rank: int = 0, processes: int = 1) -> Iterator[None]:
    """Draw by the places of rows in the global batch, in the functions of this module.

    All processes must draw in the same order, with as many rows each.

    Args:
        seed: Of the iteration, the same in all processes.
        rank: Of this process, which holds rows ``rank * B`` to ``rank * B + B - 1``.
        processes: Number of processes.
    """
    with _as_current(_GlobalBatch(seed, rank, processes)):
        yield


def is_global() -> bool:
    """Whether a :func:`global_batch` is being worked on; compiled code has no access to it."""
    return not torch.compiler.is_compiling() and _current is not None


def checkpoint_settings() -> dict:
    """Settings of torch's checkpoint with which the same is drawn where it is recomputed."""
    settings: dict = dict(use_reentrant=False)
    if not is_global():  # compiled code draws with torch
        return settings
    return settings | dict(context_fn=_replayed)


def _replayed() -> tuple[AbstractContextManager, AbstractContextManager]:
    return nullcontext(), _as_current(replace(_current))


def rand(
    size: Sequence[int],
    device: torch.device | str = 'cpu',
    generator: torch.Generator | None = None,
    dim: int = 0,
) -> Tensor:
    """Draw uniform numbers in [0, 1), float32; axis ``dim`` of ``size`` is that of the samples."""
    if generator is not None or _current is None:
        return torch.rand(*size, device=device, generator=generator)
    return ((_bits(size, device, dim) >> 40) & (2**24 - 1)).float() * 2.0**-24


def randint(
    high: int,
    size: Sequence[int],
    device: torch.device | str = 'cpu',
    generator: torch.Generator | None = None,
    dim: int = 0,
) -> Tensor:
    """Draw whole numbers from 0 to ``high - 1``; axis ``dim`` is that of the samples."""
    if generator is not None or _current is None:
        return torch.randint(high, tuple(size), device=device, generator=generator)
    return ((_bits(size, device, dim) >> 11) & (2**53 - 1)) % high


def rand_once(
    device: torch.device | str = 'cpu', generator: torch.Generator | None = None
) -> float:
    """Draw one uniform number in [0, 1) for the whole global batch.

    Without a generator it comes from the CPU, so that nothing waits for the device.
    """
    if generator is not None or _current is None:
        device = 'cpu' if generator is None else device
        return float(torch.rand((), device=device, generator=generator))
    return (_current.next_key() >> 11) * 2.0**-53


def randint_once(
    low: int,
    high: int,
    device: torch.device | str = 'cpu',
    generator: torch.Generator | None = None,
) -> int:
    """Draw one whole number from ``low`` to ``high`` for the whole global batch."""
    if generator is not None or _current is None:
        device = 'cpu' if generator is None else device
        return int(torch.randint(low, high + 1, (), device=device, generator=generator))
    return low + (_current.next_key() >> 11) % (high + 1 - low)


def dropout(x: Tensor, rate: float, training: bool = True) -> Tensor:
    """Set numbers of samples (B, ...) to zero by chance, and scale the others.

    One hash serves four numbers, whose rate is therefore a multiple of 2**-16. In compiled code
    torch draws, since that has no access to the place in the global batch.

    Args:
        x: Samples along the first axis.
        rate: Share that becomes zero, from 0 to 1.
        training: Whether anything is done.
    """
    if not (training and rate and is_global()):
        return F.dropout(x, rate, training)
    dropped = round(rate * 2**16)
    if dropped == 2**16:
        return x * 0
    count = x[0].numel()
    bits = _bits((len(x), -(-count // 4)), x.device, 0).view(torch.int16)[:, :count]
    kept = (bits >= dropped - 2**15).view_as(x)
    return torch.where(kept, x / (1 - dropped * 2.0**-16), 0)


def over_processes(x: Tensor, op: str = 'mean') -> Tensor:
    """Reduce a tensor without gradient over all parts of the global batch; else return it.

    Args:
        x: Changed in place where there are several processes.
        op: 'mean', 'sum', 'min' or 'max'.
    """
    if _current is not None and _current.processes > 1:
        all_reduce(x, op)
    return x


def mix(x: int) -> int:
    """SplitMix64's hash of a 64-bit number."""
    x &= ALL
    for shift, factor in zip(SHIFTS, (*FACTORS, 1), strict=True):
        x = (x ^ (x >> shift)) * factor & ALL
    return x


@contextmanager
def _as_current(batch: _GlobalBatch) -> Iterator[None]:
    global _current
    before, _current = _current, batch
    try:
        yield
    finally:
        _current = before


def _bits(size: Sequence[int], device: torch.device | str, dim: int) -> Tensor:
    """64 random bits each, int64."""
    dim %= len(size)
    rest = [n for axis, n in enumerate(size) if axis != dim]
    first = _current.rank * size[dim]
    rows = torch.arange(first, first + size[dim], device=device) + 1  # (B,)
    keys = _mix(rows * _signed(GOLDEN) + _signed(_current.next_key()))
    counter = torch.arange(1, math.prod(rest) + 1, device=device) * _signed(GOLDEN)  # (n,)
    return _mix(keys[:, None] + counter).view(size[dim], *rest).movedim(0, dim)


def _mix(x: Tensor) -> Tensor:
    """As :func:`mix`, of int64 numbers, which wrap around."""
    for shift, factor in zip(SHIFTS, (*FACTORS, 1), strict=True):
        x = (x ^ ((x >> shift) & (2 ** (64 - shift) - 1))) * _signed(factor)
    return x


def _signed(x: int) -> int:
    return x - 2**64 if x >= 2**63 else x
