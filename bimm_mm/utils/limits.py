"""Limits of the system that data loaders run into: shared memory and open files."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

SHARED = Path('/dev/shm')
WANTED_FILES = 65536
SPARE_FILES = 16


class LoaderLimitError(RuntimeError):
    """A worker cannot hand over its batch; the last line says which setting would help."""


class LimitedCollate:
    """Collate samples in a worker, and check that the batch can be handed over.

    Workers hand tensors over in /dev/shm, by an open file for each. Where there is no room, the
    thread that does so fails with a message that names neither, and the training waits for ever.

    Args:
        collate: Makes the batch.
        shared: The folder of shared memory.
    """

    def __init__(self, collate: Callable[[list], object], shared: Path = SHARED) -> None:
        self.collate, self.shared = collate, shared

    def __call__(self, samples: list) -> object:
        """The batch.

        Raises:
            LoaderLimitError: There is too little shared memory, or too few files may be open.
        """
        batch = self.collate(samples)
        tensors = [tensor for tensor in tensors_of(batch) if not tensor.is_shared()]
        self._check_memory(sum(tensor.nbytes for tensor in tensors))
        self._check_files(len(tensors))
        return batch

    def _check_memory(self, needed: int) -> None:
        try:
            status = os.statvfs(self.shared)
        except OSError:  # no such folder: not Linux
            return
        free, size = status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize
        if needed > free:
            raise LoaderLimitError(
                f'{self.shared} has {free / 1e6:.0f} of {size / 1e6:.0f} MB left, but a batch '
                f'takes {needed / 1e6:.0f} MB of it, and each worker holds 2 of them '
                '(prefetch_factor): give the container more (docker run --shm-size=16g, or '
                '--ipc=host), or set train_dataloader.num_workers or batch_size lower'
            )

    def _check_files(self, needed: int) -> None:
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        try:
            used = len(os.listdir('/proc/self/fd'))
        except OSError:
            return
        if limit != resource.RLIM_INFINITY and used + needed + SPARE_FILES > limit:
            raise LoaderLimitError(
                f'{used} of {limit} files that a process may have open are, and a batch needs '
                f'{needed} more, one for each tensor: raise the limit (ulimit -n 65536 in the '
                'shell, or LimitNOFILE of the service), or set train_dataloader.num_workers or '
                'batch_size lower'
            )


def tensors_of(node: object) -> Iterator[torch.Tensor]:
    """The tensors in the dicts and lists of a batch."""
    if isinstance(node, torch.Tensor):
        yield node
    elif isinstance(node, dict):
        for value in node.values():
            yield from tensors_of(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from tensors_of(value)


def raise_open_files(wanted: int = WANTED_FILES) -> tuple[int, int] | None:
    """Let this process, and those it starts, have as many files open as it may.

    Returns:
        The limit before and after; None where nothing was changed.
    """
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft == resource.RLIM_INFINITY or soft >= most:
        return None
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return soft, most
