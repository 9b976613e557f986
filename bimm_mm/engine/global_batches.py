"""The batches of all processes together, and this process's share of each.

At one global batch, any number of processes sees the same samples in the same iterations: what the
sampler of one process would draw is cut into global batches, and each of these into equal parts in
the order of the ranks. Source: our choice.
"""

import copy
from collections.abc import Iterator

from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.dist import get_dist_info
from torch.utils.data import BatchSampler, Sampler


class GlobalBatches:
    """This process's share of each global batch.

    Where the last global batch of an epoch is kept though it is not full, it is filled up to a
    multiple of the number of processes from the beginning of the epoch, as DefaultSampler does it;
    only there the number of processes can make a difference. ``drop_last`` leaves it out.

    Args:
        sampler: Of one process: it draws all indices.
        batch_size: Samples of a batch of one process.
        drop_last: Whether an epoch ends with its last full global batch.
        rank: Of this process.
        processes: How many processes share a global batch.
    """

    def __init__(
        self, sampler: Sampler, batch_size: int, drop_last: bool, rank: int, processes: int
    ) -> None:
        self.sampler = sampler
        self.batch_size, self.drop_last = batch_size, drop_last
        self.rank, self.processes = rank, processes

    def __len__(self) -> int:
        """Number of batches of an epoch."""
        together = self.batch_size * self.processes
        full, rest = divmod(len(self.sampler), together)
        return full + bool(rest and not self.drop_last)

    def __iter__(self) -> Iterator[list[int]]:
        """Lists of indices."""
        together = self.batch_size * self.processes
        first: list[int] = []
        batch: list[int] = []
        for index in self.sampler:
            batch.append(index)
            if len(first) < self.processes:
                first.append(index)
            if len(batch) == together:
                yield self._share(batch)
                batch = []
        if batch and not self.drop_last:
            missing = -len(batch) % self.processes
            yield self._share(batch + (first * missing)[:missing])

    def _share(self, batch: list[int]) -> list[int]:
        size = len(batch) // self.processes
        return batch[self.rank * size :][:size]


def share_batches(batches, rank: int, processes: int):
    """Turn the batch sampler of a process into one that takes its share of global batches.

    Args:
        batches: A BatchSampler over mmengine's DefaultSampler or InfiniteSampler. Another one is
            returned as it is: what its processes see depends on how many they are.
        rank: Of this process.
        processes: How many processes share a global batch.
    """
    sampler = getattr(batches, 'sampler', None)
    known = type(batches) is BatchSampler and type(sampler) in (DefaultSampler, InfiniteSampler)
    if not known or processes == 1:
        return batches
    return GlobalBatches(
        as_one_process(sampler), batches.batch_size, batches.drop_last, rank, processes
    )


def is_shared(batches) -> bool:
    """Whether a batch sampler gives the same global batches to any number of processes."""
    return isinstance(batches, GlobalBatches) or get_dist_info()[1] == 1


def as_one_process(sampler: DefaultSampler | InfiniteSampler) -> DefaultSampler | InfiniteSampler:
    """Return a copy of a sampler that draws what it would draw in a run of one process."""
    sampler = copy.copy(sampler)
    sampler.rank, sampler.world_size = 0, 1
    if isinstance(sampler, DefaultSampler):
        sampler.num_samples = sampler.total_size = len(sampler.dataset)
    else:
        sampler.indices = sampler._indices_of_rank()
    return sampler


def restart(sampler: InfiniteSampler) -> None:
    """Let an endless sampler begin anew; it would go on where it was."""
    sampler.indices = sampler._indices_of_rank()
