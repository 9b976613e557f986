"""Checkpoints that hold nobody up: a copy at once, and the writing in a thread."""

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from unittest.mock import patch

import torch
from torch import Tensor


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

    On CUDA the memory is pinned, so that the copy runs at the speed of the bus. Where nothing was
    allocated anew, nothing has to be cleared and mapped either, which takes longer than the copy.
    """

    def __init__(self) -> None:
        self._buffers: dict[tuple, list[Tensor]] = {}

    def take(self, checkpoint: object) -> object:
        """Copy a nested structure; what the last copy held may be overwritten.

        Tensors that share memory, as those of shared blocks, share it in the copy, too.
        """
        self._free = {key: list(buffers) for key, buffers in self._buffers.items()}
        self._copies: dict[tuple, Tensor] = {}
        self._devices: set[torch.device] = set()
        copied = self._copy(checkpoint)
        for device in self._devices:
            torch.cuda.synchronize(device)
        return copied

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
        if type(value) not in (Tensor, torch.nn.Parameter) or value.layout != torch.strided:
            return value.detach().clone().cpu()
        value = value.detach()
        same = (value.data_ptr(), value.device, value.dtype, value.shape, value.stride())
        if same not in self._copies or not value.numel():
            buffer = self._buffer(value)
            buffer.copy_(value, non_blocking=value.is_cuda)
            if value.is_cuda:
                self._devices.add(value.device)
            self._copies[same] = buffer
        return self._copies[same]

    def _buffer(self, value: Tensor) -> Tensor:
        key = (value.shape, value.dtype, value.is_cuda)
        free = self._free.get(key)
        if free:
            return free.pop()
        buffer = torch.empty(value.shape, dtype=value.dtype, pin_memory=value.is_cuda)
        self._buffers.setdefault(key, []).append(buffer)
        return buffer


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
