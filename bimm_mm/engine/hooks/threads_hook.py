"""Pick the number of threads of a CPU by trial."""

import copy
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.device import get_device
from mmengine.dist import is_distributed
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn

from ...models.layers import TransformerBlock

SAMPLES, TOKENS, WIDTH = 8, 64, 96
ROUNDS = 7
HOPELESS = 2  # times the best: not tried again
# by the number there was and the width; once for a process, so that runs are alike
_picked: dict[tuple[int, int], int] = {}


@HOOKS.register_module()
class ThreadsHook(Hook):
    """On a CPU, try how many threads are fastest on this machine at this time, and take those.

    Threads of a parallel region wait for the last of them. On a machine that others use, too, two
    threads may take several times as long as one; on an idle one they take less. The trial takes
    less than a second; the number goes into checkpoints, and a run that resumes takes it again,
    since other threads add up in another order.

    Does nothing on an accelerator, in a distributed run, and where the environment says how many
    (``OMP_NUM_THREADS``, ``MKL_NUM_THREADS``).

    Args:
        rounds: Of the trial; in each, all numbers take turns.

    Raises:
        ValueError: ``rounds`` is not positive.
    """

    priority = 'VERY_HIGH'

    def __init__(self, rounds: int = ROUNDS) -> None:
        if rounds < 1:
            raise ValueError(f'rounds={rounds} must be at least 1')
        self.rounds = rounds
        self._resumed: int | None = None
        self._before: int | None = None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Take the number of a run that is resumed."""
        if runner._resume:
            self._resumed = checkpoint.get('meta', {}).get('threads')

    def before_train(self, runner: Runner) -> None:
        """Try, and set the number."""
        on_cpu = next(runner.model.parameters()).device.type == 'cpu'
        if not _may_choose() or not on_cpu or is_distributed():
            return
        self._before = now = torch.get_num_threads()
        picked = self._resumed or _pick(runner.model, self.rounds)
        torch.set_num_threads(picked)
        why = 'as before' if self._resumed else 'the fastest in a trial'
        runner.logger.info(f'{picked} of {now} threads compute, {why} (OMP_NUM_THREADS sets them)')

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Note the number."""
        if self._before is not None:
            checkpoint['meta']['threads'] = torch.get_num_threads()

    def after_train(self, runner: Runner) -> None:
        """Set back what was there."""
        if self._before is not None:
            torch.set_num_threads(self._before)

    after_failure = after_train


@contextmanager
def fastest_threads(model: nn.Module) -> Iterator[None]:
    """Compute with the number of threads that a training takes, until the block ends.

    Args:
        model: With blocks of the width that is trained.
    """
    before = torch.get_num_threads()
    if _may_choose() and get_device() == 'cpu':
        torch.set_num_threads(_pick(model, ROUNDS))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _may_choose() -> bool:
    """Whether there is more than one thread, and the environment does not say how many."""
    told = {'OMP_NUM_THREADS', 'MKL_NUM_THREADS'} & os.environ.keys()
    return not told and torch.get_num_threads() > 1


def _pick(model: nn.Module, rounds: int) -> int:
    """The number of threads that was fastest in a trial, made once in a process for each width."""
    block = _find_block(model)
    now = torch.get_num_threads()
    key = now, WIDTH if block is None else _width(block)
    if key not in _picked:
        _picked[key] = fastest(first_block(model), now, rounds)
    return _picked[key]


def _find_block(model: nn.Module) -> TransformerBlock | None:
    blocks = (module for module in model.modules() if isinstance(module, TransformerBlock))
    return next(blocks, None)


def _width(block: nn.Module) -> int:
    return next(p.shape[-1] for p in block.parameters() if p.dim() == 2)


def first_block(model: nn.Module) -> nn.Module:
    """A copy of the first Transformer block of a model, else one of no great width."""
    block = _find_block(model)
    if block is None:
        return TransformerBlock(WIDTH, 3)
    block = copy.deepcopy(block).requires_grad_(True)  # it may be frozen
    block.window_size = 0  # windows need a grid of tokens
    return block


def fastest(block: nn.Module, most: int, rounds: int) -> int:
    """Return the number of threads with which a block computes fastest, forward and backward.

    Numbers take turns, so that whatever else the machine does falls on all of them alike; the
    median counts. One that takes twice as long as another is not tried again.

    Args:
        block: (B, L, C) to (B, L, C).
        most: Threads that there are; half as many, and so on, are tried.
        rounds: How often.
    """
    width = _width(block)
    generator = torch.Generator().manual_seed(0)  # a trial must not change what is drawn later
    x = torch.randn(SAMPLES, TOKENS, width, generator=generator)
    numbers = [most]
    while numbers[-1] > 1:
        numbers.append(numbers[-1] // 2)
    times: dict[int, list[float]] = {number: [] for number in numbers}
    state = torch.get_rng_state()
    try:
        for turn in range(rounds + 1):  # the first starts the threads
            for number in numbers:
                torch.set_num_threads(number)
                start = time.perf_counter()
                for _ in range(3):
                    block(x).sum().backward()
                if turn:
                    times[number].append(time.perf_counter() - start)
            if turn:  # threads that get in each other's way may take 40 times as long
                best = min(min(times[number]) for number in numbers)
                numbers = [n for n in numbers if min(times[n]) < HOPELESS * best]
    finally:
        torch.set_num_threads(most)
        torch.set_rng_state(state)
    return min(numbers, key=lambda number: statistics.median(times[number]))
