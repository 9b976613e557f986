"""Worker processes of data loaders: how many, and how to change that."""

import inspect
import os
import socket
from functools import partial
from pathlib import Path

from mmengine.dataset import worker_init_fn
from mmengine.dist import all_gather_object
from torch.utils.data import DataLoader

QUOTA = Path('/sys/fs/cgroup/cpu.max')
AT_MOST = 32
# the settings of a loader that say what it loads
SOURCES = {'dataset', 'batch_size', 'shuffle', 'sampler', 'batch_sampler', 'drop_last'}


def share_of(cores: int, processes: int, at_most: int = AT_MOST) -> int:
    """Workers of each of several processes, at least 1."""
    return max(1, min(at_most, cores // processes))


def cores_and_processes() -> tuple[int, int]:
    """Cores that the training processes on this machine may use, and their number.

    To be called by all processes of a run.
    """
    here = socket.gethostname(), usable_cores(), quota()
    same = [other for other in all_gather_object(here) if other[0] == here[0]]
    cores = len(set().union(*(other[1] for other in same)))
    return max(1, min(cores, *(other[2] for other in same))), len(same)


def usable_cores() -> set[int]:
    """Numbers of the cores that this process may run on."""
    if hasattr(os, 'sched_getaffinity'):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def quota(path: Path = QUOTA) -> int:
    """Cores that the container's limit allows, rounded up; a large number if there is none."""
    try:
        most, period = path.read_text().split()
        return max(1, -(-int(most) // int(period)))
    except (OSError, ValueError):  # no such file, or 'max'
        return 2**31


def with_workers(loader: DataLoader, workers: int, persistent: bool) -> DataLoader:
    """The same loader with another number of workers.

    Args:
        loader: Whose workers have not been started.
        workers: Their number.
        persistent: Whether they stay when an epoch is over.
    """
    settings = settings_of(loader)
    settings.update(num_workers=workers, persistent_workers=persistent)
    if not loader.num_workers:
        settings.update(prefetch_factor=None)  # torch's default
    init = settings['worker_init_fn']
    if isinstance(init, partial) and init.func is worker_init_fn:
        settings['worker_init_fn'] = partial(init, num_workers=workers)
    return DataLoader(loader.dataset, batch_sampler=loader.batch_sampler, **settings)


def end_workers(loader: DataLoader, rounds: object = None) -> None:
    """End the workers of a loader that is done with; it can be iterated again.

    Where garbage collection finds a loader in a circle of references, as a runner's, it closes the
    queues first. The workers are not told then, and torch waits 5 s for each.

    Args:
        loader: Its workers, if they are persistent.
        rounds: mmengine's iterator over the loader without an end: its workers.
    """
    for iterator in (loader._iterator, getattr(rounds, '_iterator', None)):
        if hasattr(iterator, '_shutdown_workers'):
            iterator._shutdown_workers()
    loader._iterator = None


def settings_of(loader: DataLoader) -> dict:
    """The settings of a loader, by name, but those that say what it loads."""
    names = inspect.signature(DataLoader).parameters.keys() - SOURCES
    return {name: getattr(loader, name) for name in names}
