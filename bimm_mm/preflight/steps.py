"""Bare training steps on one batch: their time with other settings, and their memory."""

import copy
import re
import time
from contextlib import nullcontext
from pathlib import Path

import torch
from mmengine.dist import all_reduce
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from ..engine.hooks.compile_hook import compile_modules, modules_of
from ..evaluation.analysis.memory import kept_storages
from ..evaluation.analysis.peaks import synchronize
from ..utils.wrappers import unwrap_model

HEADROOM = 0.93  # of the memory; the rest is for what other batches may need for a moment
MEMINFO = Path('/proc/meminfo')


def resize_batch(batch: object, size: int, now: int | None = None) -> object:
    """Return a collated batch of another size: its samples, repeated or cut off.

    Args:
        batch: Tensors, lists and dicts of them.
        size: Samples to have.
        now: Samples that it has; by default the length of its first tensor or list.
    """
    if now is None:
        now = batch_size_of(batch)
    if isinstance(batch, Tensor) and batch.dim() and len(batch) == now:
        return batch[torch.arange(size, device=batch.device) % now]
    if isinstance(batch, dict):
        return {key: resize_batch(value, size, now) for key, value in batch.items()}
    if isinstance(batch, list | tuple):
        if len(batch) == now and not any(isinstance(part, list | tuple) for part in batch):
            return [batch[index % now] for index in range(size)]
        return [resize_batch(part, size, now) for part in batch]
    return batch


def batch_size_of(batch: object) -> int:
    """Return the samples of a collated batch: the length of its first tensor or list."""
    if isinstance(batch, dict):
        batch = batch.get('inputs', next(iter(batch.values())))
    while isinstance(batch, list | tuple) and batch and isinstance(batch[0], list | tuple):
        batch = batch[0]
    return len(batch)


class BareSteps:
    """Steps of a model without hooks, log and loader.

    In a distributed run all processes are to call the same methods in the same order.

    Args:
        model: As the Runner wraps it.
        wrapper: The optimizer, wrapped.
        batch: As the data loader made it.
        steps: To time, after a third as many that are not.
    """

    def __init__(
        self, model: nn.Module, wrapper: OptimWrapper, batch: object, steps: int = 9
    ) -> None:
        self.model, self.wrapper, self.batch, self.steps = model, wrapper, batch, steps
        self.device = next(model.parameters()).device
        self.size = batch_size_of(batch)
        self.dtype: torch.dtype | None = None  # of an autocast that the wrapper does not do

    def take(self, batch: object) -> None:
        """Take one step."""
        same = nullcontext()
        context = same if self.dtype is None else torch.autocast(self.device.type, self.dtype)
        with context:
            self.model.train_step(batch, optim_wrapper=self.wrapper)

    def seconds(self, size: int | None = None) -> float:
        """Time a step; in a distributed run, that of the slowest process.

        Args:
            size: Of the batch; that of the data loader by default.
        """
        batch = self.batch if size is None else resize_batch(self.batch, size)
        for _ in range(max(1, self.steps // 3)):
            self.take(batch)
        synchronize(self.device)
        start = time.perf_counter()
        for _ in range(self.steps):
            self.take(batch)
        synchronize(self.device)
        seconds = torch.tensor((time.perf_counter() - start) / self.steps, device=self.device)
        all_reduce(seconds, 'max')
        return float(seconds)

    def compile_blocks(self) -> str:
        """Compile the Transformer blocks from now on; return why not, or ''."""
        blocks = modules_of(self.model, 'blocks')
        if not blocks:
            return 'the model has no TransformerBlock'
        compile_modules(blocks, dynamic=False)
        try:
            self.take(self.batch)
        except Exception as error:  # whatever the compiler finds missing on this machine
            self.uncompile_blocks()
            return f'{type(error).__name__}: {str(error).strip().splitlines()[0]}'
        return ''

    def uncompile_blocks(self) -> None:
        """Undo :meth:`compile_blocks`."""
        for module in modules_of(self.model, 'blocks'):
            module._compiled_call_impl = None


def memory_of(steps: BareSteps) -> tuple[float, float, str]:
    """Measure the bytes that a step needs whatever the batch, and for each sample of it.

    On CUDA they are those at the peak of steps of two sizes. Elsewhere weights, gradients and the
    optimizer's state are added up, and what autograd keeps of a forward pass.

    Returns:
        Fixed bytes, bytes per sample, and 'measured' or 'counted'.
    """
    smaller = max(1, steps.size // 2)
    larger = 2 * smaller
    if steps.device.type == 'cuda':
        small, large = (_peak(steps, size) for size in (smaller, larger))
        how = 'measured'
    else:
        state = _state_bytes(steps)
        small, large = (state + _kept_bytes(steps, size) for size in (smaller, larger))
        how = 'counted'
    each = max((large - small) / (larger - smaller), 1.0)
    return small - each * smaller, each, how


def memory_at_hand(device: torch.device) -> int | None:
    """Bytes that a process can have: all of a GPU's but other processes', or what is free.

    None where nobody says what is free.
    """
    if device.type == 'cuda':
        free, _ = torch.cuda.mem_get_info(device)
        return int((free + torch.cuda.memory_reserved(device)) * HEADROOM)
    found = re.search(r'MemAvailable: *(\d+)', MEMINFO.read_text()) if MEMINFO.is_file() else None
    return int(1024 * int(found[1]) * HEADROOM) if found else None


def fits(steps: BareSteps, size: int) -> bool:
    """Whether a step of so many samples fits on a GPU, by taking it. In one process alone."""
    try:
        steps.take(resize_batch(steps.batch, size))
        synchronize(steps.device)
    except torch.cuda.OutOfMemoryError:
        steps.wrapper.zero_grad()
        torch.cuda.empty_cache()
        return False
    return True


def largest_batch(steps: BareSteps, fixed: float, each: float) -> int | None:
    """Return the largest batch that fits, tried on a GPU where this process is alone.

    None where the memory at hand is not known.

    Args:
        steps: Of the model.
        fixed: Bytes that do not depend on the batch.
        each: Bytes per sample.
    """
    memory = memory_at_hand(steps.device)
    if memory is None:
        return None
    size = int(max(0.0, (memory - fixed) / each))
    if steps.device.type != 'cuda':
        return size
    if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
        least = torch.tensor(size, device=steps.device)
        all_reduce(least, 'min')
        return int(least)
    while size > steps.size and not fits(steps, size):
        size = int(size * 0.9)
    return max(size, steps.size)


def _peak(steps: BareSteps, size: int) -> int:
    batch = resize_batch(steps.batch, size)
    steps.take(batch)
    torch.cuda.reset_peak_memory_stats(steps.device)
    for _ in range(2):
        steps.take(batch)
    return torch.cuda.max_memory_allocated(steps.device)


def _state_bytes(steps: BareSteps) -> int:
    """Weights, gradients and the state of the optimizer."""
    parameters = list(steps.model.parameters())
    weights = sum(p.nbytes * (2 if p.requires_grad else 1) for p in parameters)
    state = steps.wrapper.optimizer.state.values()
    kept = (v for values in state for v in values.values() if isinstance(v, Tensor))
    return weights + sum(tensor.nbytes for tensor in kept)


def _kept_bytes(steps: BareSteps, size: int) -> int:
    """What autograd keeps of a forward pass."""
    model = unwrap_model(steps.model)
    batch = copy.copy(resize_batch(steps.batch, size))
    with kept_storages(model) as storages, steps.wrapper.optim_context(model):
        data = model.data_preprocessor(batch, training=True)
        losses = model._run_forward(data, mode='loss')
    del losses
    return sum(storage.nbytes() for storage in storages.values())
