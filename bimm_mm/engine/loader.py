"""A data loader whose batches are numbered and seeded, and whose workers do not stop for epochs."""

from collections.abc import Iterator

from torch.utils.data import DataLoader, IterableDataset

from ..utils.limits import LimitedCollate
from ..utils.workers import settings_of
from .global_batches import share_batches
from .seeding import NumberedBatches, SeededDataset


class ContinuousLoader(DataLoader):
    """Loader of :class:`NumberedBatches` whose workers go on with the next epoch by themselves.

    An iterator over it ends with the epoch, as that of any loader. But with persistent workers, the
    first batches of the next epoch are made while the last ones of this epoch are trained on, and
    during a validation in between, so that nobody waits for them. The batches are the same.

    Each iterator begins where ``batch_sampler.place`` says. If that is not where the last one
    ended, the workers begin anew there.
    """

    _place = None  # of the next batch that the workers make: epoch, and number in it

    def __iter__(self) -> Iterator:
        """Batches of one epoch."""
        if not self.persistent_workers:
            return super().__iter__()
        self.batch_sampler.goes_on = True
        return self._epoch()

    def _epoch(self) -> Iterator:
        batches = self.batch_sampler
        epoch, number = place = batches.place
        if self._iterator is None or self._place != place:
            super().__iter__()
        while batches.ends.get(epoch) != number:
            batch = next(self._iterator)
            number += 1
            is_last = batches.ends.get(epoch) == number
            self._place = (epoch + 1, 0) if is_last else (epoch, number)
            yield batch


def number_batches(
    loader: DataLoader, seed: int, rank: int = 0, processes: int = 1
) -> ContinuousLoader:
    """Rebuild a loader with seeded samples and a numbered ``batch_sampler``.

    Args:
        loader: Of batches of indices.
        seed: Of the run, 0 or more, the same in all processes.
        rank: Of this process.
        processes: How many processes share a global batch.

    Raises:
        TypeError: It draws no batches of indices, as that of an iterable dataset.
    """
    if loader.batch_sampler is None or isinstance(loader.dataset, IterableDataset):
        raise TypeError(
            f'train_dataloader, of {type(loader.dataset).__name__}, draws no batches of indices: '
            'the run cannot be resumed exactly. Use a data set with a length, and batch_size, or '
            'leave the hook out (default_hooks.exact_resume=None)'
        )
    batches = share_batches(loader.batch_sampler, rank, processes)
    settings = settings_of(loader)
    if loader.num_workers:
        settings['collate_fn'] = LimitedCollate(loader.collate_fn)
    return ContinuousLoader(
        SeededDataset(loader.dataset),
        batch_sampler=NumberedBatches(batches, seed, rank, processes),
        **settings,
    )
