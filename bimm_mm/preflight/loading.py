"""How fast the data loader is alone."""

import os
import time
from dataclasses import dataclass

import torch
from mmengine.config import ConfigDict
from mmengine.dist import all_reduce, get_dist_info
from mmengine.runner import Runner
from torch.utils.data import DataLoader

PREFETCHED = 2  # batches that each worker makes in advance


@dataclass(frozen=True)
class LoaderRate:
    """What a data loader gives while nothing trains.

    Attributes:
        batches: Per second and process.
        workers: Of each process, that made them; 0 for the process itself.
        cores: For each process of this machine.
    """

    batches: float
    workers: int
    cores: int

    def workers_for(self, batches: float) -> int:
        """Workers that give so many batches per second, if all are as fast as these."""
        return max(1, -int(-batches // (self.batches / max(1, self.workers))))


def measure_loader(cfg: ConfigDict, seed: int, batches: int) -> LoaderRate:
    """Time a new data loader without training, in all processes at once.

    Args:
        cfg: Of the training's loader.
        seed: Of its sampler.
        batches: To time, at least; as many as the workers make at once come before.

    Raises:
        RuntimeError: The data set has too few batches to time any.
    """
    loader = Runner.build_dataloader(cfg, seed=seed)
    workers = loader.num_workers
    made = _endless(loader)
    warmup = max(1, workers * (loader.prefetch_factor or PREFETCHED))
    for _ in range(warmup):
        next(made)
    wanted = max(batches, 2 * workers)
    start = time.perf_counter()
    for _ in range(wanted):
        next(made)
    seconds = torch.tensor(time.perf_counter() - start, dtype=torch.float64)
    made.close()
    all_reduce(seconds, 'max')
    here = int(os.environ.get('LOCAL_WORLD_SIZE') or get_dist_info()[1])
    cores = max(1, cores_at_hand() // here)
    return LoaderRate(wanted / float(seconds), workers, cores)


def cores_at_hand() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()


def _endless(loader: DataLoader):
    while True:
        count = 0
        for batch in loader:
            count += 1
            yield batch
        if not count:
            raise RuntimeError('train_dataloader gives no batch: fewer samples than batch_size?')
