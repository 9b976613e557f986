"""Checkpoints that hold nobody up: a copy at once, and the writing in a thread."""

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from threading import Lock, Thread
from unittest.mock import patch

import torch
from torch import Tensor
from torch.optim import Optimizer

WHOLE = (Tensor, torch.nn.Parameter)  # tensors that lie on one device


class BackgroundWriter:
    """Do one piece of work after the other in a thread, at most one at a time.

    An error of the work is raised where :meth:`check`, :meth:`wait` or :meth:`start` is called
    next. The interpreter waits for the thread before it ends.
    """

    def __init__(self) -> None:
        self._thread: Thread | None = None
        self._error: BaseException | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a piece of work is being done."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, work: Callable[[], object]) -> None:
        """Begin with a piece of work when the one before is done."""
        self.wait()
        self._thread = Thread(target=self._run, args=(work,), name='checkpoint writer')
        self._thread.start()

    def wait(self) -> None:
        """Wait until the work is done, and raise its error."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def check(self) -> None:
        """Raise the error of work that is done; does not wait."""
        if not self.is_busy:
            self.wait()

    def _run(self, work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:
            self._error = error


class HostCopy:
    """Copies of a checkpoint in memory of the host, which the next copy uses again.

    What only an optimizer changes, weights and its state, is copied beside the next forward and
    backward pass, as in CheckFreq (Mohan et al., FAST 2021): :meth:`take` leaves it to
    :meth:`finish`, which the writing thread calls, and each step of the optimizer before it begins.

    On CUDA the memory is pinned, and these copies run on a stream of their own. Where nothing was
    allocated anew, nothing has to be cleared and mapped either, which takes longer than the copy.
    """

    def __init__(self) -> None:
        self._buffers: dict[tuple, list[Tensor]] = {}
        self._optimizers: list[Optimizer] = []
        self._lock = Lock()
        self._left: list[tuple[Tensor, Tensor]] = []  # (buffer, tensor) that are to be copied
        self._events: list[torch.cuda.Event] = []

    def watch(self, optimizers: Iterable[Optimizer]) -> None:
        """Let the steps of these optimizers, and of no others, wait for a copy to be finished."""
        for optimizer in optimizers:
            if all(optimizer is not known for known in self._optimizers):
                optimizer.register_step_pre_hook(lambda *args: self.finish(on_host=False))
        self._optimizers = list(optimizers)

    def take(self, checkpoint: object) -> object:
        """Copy a nested structure; what the last copy held may be overwritten.

        Tensors that share memory, as those of shared blocks, share it in the copy, too. The copy
        is complete after :meth:`finish`.
        """
        self._free = {key: list(buffers) for key, buffers in self._buffers.items()}
        self._copies: dict[tuple, Tensor] = {}
        self._devices: set[torch.device] = set()
        self._changed_by_steps = set(map(memory_of, self._tensors_of_optimizers()))
        with self._lock:
            self._events = []  # they stay until here: steps may ask while the host waits for them
            copied = self._copy(checkpoint)
            self._begin_on_devices()
        return copied

    def finish(self, on_host: bool = True) -> None:
        """Copy what is left, or wait until another thread has done so.

        Args:
            on_host: Whether the host waits for the devices, too. Otherwise only what they do next
                waits, which is enough before weights are changed.
        """
        with self._lock:
            for buffer, value in self._left:
                buffer.copy_(value)
            self._left.clear()
            events = self._events
        for event in events:
            if on_host:
                event.synchronize()
            else:
                event.wait()

    def _begin_on_devices(self) -> None:
        """Let devices copy, each on a stream of its own."""
        for device in self._devices:
            stream = torch.cuda.Stream(device)
            stream.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(stream):
                for buffer, value in self._left:
                    if value.device == device:
                        buffer.copy_(value, non_blocking=True)
                self._events.append(stream.record_event())
        self._left = [(buffer, value) for buffer, value in self._left if not value.is_cuda]

    def _tensors_of_optimizers(self) -> Iterator[Tensor]:
        """What only steps change: a frozen encoder may follow another one in the forward pass."""
        for optimizer in self._optimizers:
            groups = (group['params'] for group in optimizer.param_groups)
            trained = (parameter for parameter in chain(*groups) if parameter.requires_grad)
            states = (state.values() for state in optimizer.state.values())
            for value in chain(trained, *states):
                if type(value) in WHOLE:
                    yield value

    def _copy(self, value: object) -> object:
        if isinstance(value, Tensor):
            return self._copy_tensor(value)
        if type(value) in (dict, OrderedDict):
            copied = type(value)((key, self._copy(part)) for key, part in value.items())
            if hasattr(value, '_metadata'):  # of a module's state
                copied._metadata = value._metadata
            return copied
        if type(value) in (list, tuple):
            return type(value)(self._copy(part) for part in value)
        return copy.deepcopy(value)

    def _copy_tensor(self, value: Tensor) -> Tensor:
        if type(value) not in WHOLE or value.layout != torch.strided:
            return value.detach().clone().cpu()
        value = value.detach()
        same = (value.data_ptr(), value.device, value.dtype, value.shape, value.stride())
        if same not in self._copies or not value.numel():
            self._copies[same] = buffer = self._buffer(value)
            if value.is_cuda:
                self._devices.add(value.device)
            if memory_of(value) in self._changed_by_steps:
                self._left.append((buffer, value))
            else:
                buffer.copy_(value, non_blocking=value.is_cuda)
        return self._copies[same]

    def _buffer(self, value: Tensor) -> Tensor:
        key = (value.shape, value.dtype, value.is_cuda)
        free = self._free.get(key)
        if free:
            return free.pop()
        buffer = torch.empty(value.shape, dtype=value.dtype, pin_memory=value.is_cuda)
        self._buffers.setdefault(key, []).append(buffer)
        return buffer


def memory_of(tensor: Tensor) -> tuple[torch.device, int]:
    """Where the memory lies that a tensor is a view of."""
    return tensor.device, tensor.untyped_storage().data_ptr()


@contextmanager
def caught_checkpoint(filename: str) -> Iterator[list[dict]]:
    """Run mmengine's saving without its copies to the host and without its writing.

    mmengine copies each tensor into pageable memory and writes at once; both are functions of a
    module, and have no setting.

    Args:
        filename: Path of the checkpoint that is caught; others are written.

    Yields:
        A list that gets the checkpoint, with tensors on the device, and stays empty in processes
        that write none.
    """
    from mmengine.runner import checkpoint as module

    caught: list[dict] = []
    save = module.save_checkpoint

    def catch(checkpoint: dict, name: str, *args, **kwargs) -> None:
        if str(name) == filename:
            caught.append(checkpoint)
        else:
            save(checkpoint, name, *args, **kwargs)

    def as_it_is(value: object, *args) -> object:
        return value

    with (
        patch('mmengine.runner.runner.save_checkpoint', catch),
        patch('mmengine.runner.runner.weights_to_cpu', as_it_is),
        patch('mmengine.runner.runner.apply_to', as_it_is),
        patch('mmengine.runner.checkpoint.save_checkpoint', catch),
        patch('mmengine.runner.weights_to_cpu', as_it_is),
    ):
        yield caught
