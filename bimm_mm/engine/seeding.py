"""Seeds for samples and batches that do not depend on what was drawn before.

Samples are seeded by their place in the sequence of all processes, iterations by their number. No
state of a generator needs to be saved, and it does not matter which worker process makes a sample,
how many were made in advance, or how many processes share a batch. Source: our choice.
"""

import random
from collections.abc import Iterator, Sized
from itertools import islice

import numpy as np
import torch
from mmengine.dataset import InfiniteSampler
from torch.utils.data import Dataset

from .global_batches import restart

# streams of seeds that have nothing in common: samples, iterations in a process and in all
SAMPLE, ITERATION, GLOBAL = 0, 1, 2
REMEMBERED = 1000  # batches; more than any loader makes in advance


def derive_seed(*key: int) -> int:
    """Derive a 64-bit seed from non-negative integers."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy and torch on all devices."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


class NumberedBatches:
    """Batch sampler that starts anywhere and pairs each index with a seed of its own.

    Batches that are skipped are not decoded, only their indices are drawn.

    Args:
        batches: A batch sampler, of lists of indices.
        seed: Of the run, 0 or more, the same in all processes.
        rank: Of this process, whose share of a global batch follows those of the lower ranks.
        processes: How many processes share a global batch.

    Attributes:
        epoch: The pass over the data that an iterator begins with; set before each.
        start: (epoch, batches of it to leave out).
        goes_on: Whether an iterator goes on with the passes that follow, without an end.
        ends: Number of batches of a pass, by epoch; known as soon as its last one was drawn.
        iteration: Number of the training iteration that takes the first batch of an iterator.
        sampler: That of ``batches``, whose ``set_epoch`` mmengine calls.
    """

    def __init__(self, batches: Sized, seed: int, rank: int = 0, processes: int = 1) -> None:
        self.batches = batches
        self.sampler = getattr(batches, 'sampler', None)
        self.seed, self.rank, self.processes = seed, rank, processes
        self.epoch = 0
        self.start = (0, 0)
        self.goes_on = False
        self.ends: dict[int, int] = {}
        self.iteration = 0
        self._indices: dict[int, list[int]] = {}

    @property
    def batch_size(self) -> int:
        """Samples of a batch."""
        return self.batches.batch_size

    @property
    def place(self) -> tuple[int, int]:
        """Where an iterator begins: epoch, and number of the batch in it."""
        return self.epoch, self.start[1] if self.start[0] == self.epoch else 0

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        """Lists of (index, seed)."""
        (epoch, skipped), iteration = self.place, self.iteration
        while True:
            for number, indices in self._pass(epoch, skipped):
                self._indices[iteration] = indices
                self._indices.pop(iteration - REMEMBERED, None)
                iteration += 1
                place = number * self.batch_size * self.processes + self.rank * len(indices)
                yield [
                    (index, derive_seed(SAMPLE, self.seed, epoch, place + offset))
                    for offset, index in enumerate(indices)
                ]
            if not self.goes_on:
                self.iteration = iteration
                return
            epoch, skipped = epoch + 1, 0

    def _pass(self, epoch: int, skipped: int) -> Iterator[tuple[int, list[int]]]:
        """Number and indices of the batches of an epoch; notes which one is the last."""
        sampler = self.sampler
        if isinstance(sampler, InfiniteSampler):  # it goes on where it was; start it anew
            restart(sampler)
        elif hasattr(sampler, 'set_epoch'):
            sampler.set_epoch(epoch)
        batches = islice(self.batches, skipped, None)
        number, following = skipped, next(batches, None)
        while following is not None:
            indices, following = list(following), next(batches, None)
            if following is None:
                self.ends[epoch] = number + 1
                self.ends.pop(epoch - REMEMBERED, None)
            yield number, indices
            number += 1
        self.ends.setdefault(epoch, number)

    def indices_of(self, iteration: int) -> list[int]:
        """Return the samples of the batch of one of the last iterations."""
        return self._indices.get(iteration, [])


class SeededDataset(Dataset):
    """Dataset whose samples depend only on the seed that comes with the index.

    All other attributes are those of the dataset.

    Args:
        dataset: Its ``__getitem__`` takes an index.
    """

    __getitems__ = None  # torch would pass a whole batch to the dataset's, past the seeds

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __getattr__(self, name: str) -> object:
        if name == 'dataset':  # not there yet, while it is unpickled
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, draw: tuple[int, int]) -> object:
        """Sample ``index`` for (index, seed)."""
        index, seed = draw
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.default_generator.manual_seed(seed)  # a worker makes its samples on the CPU
        return self.dataset[index]
