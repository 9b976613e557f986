"""Time the parts of training iterations, on the device where there is one."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from ..evaluation.analysis.flops import step_flops
from ..evaluation.analysis.peaks import synchronize
from ..utils.wrappers import unwrap_model

# Marks of an iteration in their order, and the part that ends with each.
PARTS = {
    'begin': 'waiting for data',  # since the end of the iteration before
    'input': 'hooks and log',
    'forward': 'copy and normalize',
    'backward': 'forward',
    'step': 'backward',
    'stepped': 'optimizer',
    'end': 'hooks and log',
}


class EnoughIterations(Exception):
    """What ends a run after the iterations that were to be timed."""


@dataclass
class Times:
    """Times of a run's iterations.

    Attributes:
        parts: Mean seconds of each part of an iteration; they add up to the mean of ``iterations``.
        iterations: Seconds of each iteration.
        batch: The last batch of the data loader.
        samples: Clips or images that the model got in an iteration.
        flops: Of the matrix products of an iteration.
        memory: Bytes at the peak of the timed iterations, on a CPU 0.
        threads: Of the CPU, with which they were computed.
    """

    parts: dict[str, float] = field(default_factory=dict)
    iterations: list[float] = field(default_factory=list)
    batch: object = None
    samples: int = 0
    flops: int = 0
    memory: int = 0
    threads: int = 1

    @property
    def step(self) -> float:
        """Mean seconds of an iteration without what hooks, log and loader take."""
        return self.mean - self.parts['waiting for data'] - self.parts['hooks and log']

    @property
    def mean(self) -> float:
        """Mean seconds of an iteration."""
        return sum(self.iterations) / len(self.iterations)


class Clock(Hook):
    """Times the parts of each iteration, and ends the run after some.

    On CUDA, marks are events in the stream: nothing waits for them. From one to the next the device
    computes, or has nothing to do: the time between the last kernel of an iteration and the first
    mark of the next is what it waits for data.

    Args:
        warmup: Iterations that are not timed. In the first, matrix products are counted.
        iterations: To time.
        tell: Called after each iteration.
    """

    priority = 'HIGHEST'

    def __init__(
        self, warmup: int, iterations: int, tell: Callable[[], None] = lambda: None
    ) -> None:
        if warmup < 2 or iterations < 1:
            raise ValueError(f'warmup={warmup} must be at least 2, iterations={iterations} 1')
        self.warmup, self.iterations, self.tell = warmup, iterations, tell
        self.times = Times()
        self._marks: list[tuple[str, object]] = []

    def before_train(self, runner: Runner) -> None:
        """Put marks around what an iteration is made of."""
        self.device = next(runner.model.parameters()).device
        self._on_gpu = self.device.type == 'cuda'
        model = unwrap_model(runner.model)
        self._handles = [
            model.data_preprocessor.register_forward_pre_hook(lambda *_: self.mark('input')),
            model.data_preprocessor.register_forward_hook(lambda *_: self.mark('forward')),
            model.register_forward_pre_hook(self._count_samples, with_kwargs=True),
        ]
        wrapper = runner.optim_wrapper
        wrapper.backward = self._between('backward', 'step', wrapper.backward)
        wrapper.step = self._between('step', 'stepped', wrapper.step)
        self._train_step = runner.model.train_step

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Begin an iteration: its data is there."""
        self.mark('begin')
        self.times.batch = data_batch
        if runner.iter == 0:
            runner.model.train_step = self._counted_step
        elif runner.iter == self.warmup and self._on_gpu:
            torch.cuda.reset_peak_memory_stats(self.device)

    def end(self, runner: Runner) -> None:
        """End an iteration, after all other hooks.

        Raises:
            EnoughIterations: It was the last.
        """
        if runner.iter == 0:
            runner.model.train_step = self._train_step
        if runner.iter < self.warmup:
            self._marks = []  # the last 'end' of the warm-up is where the first part begins
        self.mark('end')
        self.tell()
        if runner.iter + 1 == self.warmup + self.iterations:
            self.times.threads = torch.get_num_threads()
            self._read()
            raise EnoughIterations

    def mark(self, name: str) -> None:
        """Note the moment, on a GPU that at which the device comes by."""
        if self._on_gpu:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self._marks.append((name, event))
        else:
            self._marks.append((name, time.perf_counter()))

    def remove(self, runner: Runner) -> None:
        """Take the marks away, for steps without them."""
        for handle in self._handles:
            handle.remove()
        for name in ('backward', 'step'):
            vars(runner.optim_wrapper).pop(name, None)

    def _between(self, before: str, after: str, function: Callable) -> Callable:
        def marked(*args, **kwargs) -> object:
            self.mark(before)
            result = function(*args, **kwargs)
            self.mark(after)
            return result

        return marked

    def _count_samples(self, model: nn.Module, args: tuple, kwargs: dict) -> None:
        inputs = kwargs.get('inputs', args[0] if args else None)
        if isinstance(inputs, list | tuple):
            inputs = inputs[0]
        if isinstance(inputs, Tensor):
            self.times.samples = len(inputs)

    def _counted_step(self, *args, **kwargs) -> dict:
        result = {}
        self.times.flops = step_flops(lambda: result.update(self._train_step(*args, **kwargs)))
        return result

    def _read(self) -> None:
        """Turn marks into times."""
        synchronize(self.device)
        if self._on_gpu:
            self.times.memory = torch.cuda.max_memory_allocated(self.device)
        marks = self._marks[[name for name, _ in self._marks].index('end') :]
        parts = dict.fromkeys(PARTS.values(), 0.0)
        iteration = 0.0
        for (_, before), (name, now) in zip(marks, marks[1:], strict=False):
            seconds = before.elapsed_time(now) / 1e3 if self._on_gpu else now - before
            parts[PARTS[name]] += seconds
            iteration += seconds
            if name == 'end':
                self.times.iterations.append(iteration)
                iteration = 0.0
        self.times.parts = {name: total / self.iterations for name, total in parts.items()}


class LastHook(Hook):
    """Ends each iteration of a clock, as the last of all hooks.

    Args:
        clock: The clock.
    """

    priority = 'LOWEST'

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs=None
    ) -> None:
        """End the iteration."""
        self.clock.end(runner)
