"""Workers that go on over the end of an epoch make what they would have made after it."""

import os
import random
import re
import time

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler, pseudo_collate
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    DistributedSampler,
)

from bimm_mm.config.check import ConfigError
from bimm_mm.engine.loader import number_batches
from bimm_mm.engine.runner import check_steps


class Draws(Dataset):
    """Samples that show what the three generators give, and who made them."""

    metainfo = dict(classes=('a',))

    def __init__(self, name='a', folder=None):
        self.name, self.folder = name, folder

    def __len__(self):
        return 10

    def __getitem__(self, index):
        draws = random.random(), np.random.rand(), torch.rand(()).item()
        if self.folder is not None:
            (self.folder / str(draws[0])).touch()
        return self.name, index, *draws, os.getpid()


class PerEpoch(BatchSampler):
    """Batches whose number is another one in each epoch, and not what it says."""

    def __iter__(self):
        batches = list(super().__iter__())
        return iter(batches[: len(batches) - self.sampler.epoch % 2])


def default(dataset):
    return DefaultSampler(dataset, shuffle=True, seed=5)


def distributed(dataset):
    return DistributedSampler(dataset, num_replicas=2, rank=1, seed=5)


def loader(workers, sampler=default, batches=BatchSampler, dataset=None, start=(0, 0)):
    dataset = dataset or Draws()
    plain = DataLoader(
        dataset,
        batch_sampler=batches(sampler(dataset), 2, drop_last=True),
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=pseudo_collate,
    )
    numbered = number_batches(plain, seed=1, rank=0)
    numbered.batch_sampler.start = start
    return numbered


def epoch_of(loader, epoch):
    """What a training takes in an epoch, after mmengine's hook has set the sampler's."""
    loader.batch_sampler.epoch = epoch
    loader.batch_sampler.sampler.set_epoch(epoch)
    return [list(zip(*batch, strict=True)) for batch in loader]


def without_makers(epochs):
    return [[[sample[:-1] for sample in batch] for batch in epoch] for epoch in epochs]


def makers(epochs):
    return {sample[-1] for epoch in epochs for batch in epoch for sample in batch}


@pytest.mark.parametrize('start', [(0, 0), (1, 1)])
@pytest.mark.parametrize('kind', ['default', 'distributed', 'two data sets', 'uneven'])
def test_epochs_are_those_of_a_loader_that_stops_at_each(kind, start):
    settings = dict(
        sampler=distributed if kind == 'distributed' else default,
        batches=PerEpoch if kind == 'uneven' else BatchSampler,
        dataset=ConcatDataset([Draws(), Draws('b')]) if kind == 'two data sets' else None,
        start=start,
    )
    epochs = range(start[0], 4)
    direct, continuous = loader(0, **settings), loader(2, **settings)
    wanted = without_makers(epoch_of(direct, epoch) for epoch in epochs)
    found = [epoch_of(continuous, epoch) for epoch in epochs]
    assert without_makers(found) == wanted
    assert len({str(epoch) for epoch in wanted}) == len(wanted)
    assert len(makers(found)) == 2  # the same workers in all epochs


def test_the_next_epoch_is_made_before_anybody_asks_for_it(tmp_path):
    continuous = loader(1, dataset=Draws(folder=tmp_path))
    epoch_of(continuous, 0)
    deadline = time.monotonic() + 60
    while len(list(tmp_path.iterdir())) < 10 + 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    made = {path.name for path in tmp_path.iterdir()}
    ahead = {str(sample[2]) for batch in epoch_of(continuous, 1)[:2] for sample in batch}
    assert ahead <= made  # the two batches that one worker makes in advance


def test_who_looks_at_some_batches_in_between_changes_nothing():
    """As PreciseBNHook does after an epoch, or a loop that leaves an epoch early."""
    direct, continuous = loader(0), loader(2)
    wanted = without_makers(epoch_of(direct, epoch) for epoch in range(3))
    found = [epoch_of(continuous, 0)]
    for _ in zip(range(2), continuous, strict=False):
        pass
    found.append(epoch_of(continuous, 1))
    continuous._iterator = None  # as mmdet's hooks restart workers that are to see a new pipeline
    found.append(epoch_of(continuous, 2))
    assert without_makers(found) == wanted


def test_samples_are_known_by_the_iteration_also_ahead_of_it():
    continuous = loader(2)
    seen = []
    for epoch in range(3):
        continuous.batch_sampler.iteration = len(seen)
        for batch in epoch_of(continuous, epoch):
            seen.append([sample[1] for sample in batch])
    assert [continuous.batch_sampler.indices_of(i) for i in range(len(seen))] == seen


@pytest.mark.parametrize('samples', [3, 4])
def test_a_data_set_smaller_than_a_batch_is_told_with_its_settings(samples):
    plain = DataLoader(range(samples), batch_size=4, drop_last=True)
    if samples == 4:
        check_steps(plain)
        return
    told = (
        r'3 samples / \(1 x 4\) = 0 steps per epoch, .*batch_size=3 or less, or .*drop_last=False'
    )
    with pytest.raises(ConfigError, match=told):
        check_steps(plain)


@pytest.mark.parametrize(
    'samples, sampler, wanted',
    [(20, None, True), (64, None, False), (20, InfiniteSampler, False)],
)
def test_a_batch_that_is_not_filled_is_remarked_upon(samples, sampler, wanted):
    data = range(samples)
    plain = DataLoader(data, batch_size=64, sampler=sampler and sampler(data))
    told = '20 samples do not fill a batch of 1 x 64: an epoch is one step. .*batch_size=5$'
    assert re.search(told, check_steps(plain)) if wanted else check_steps(plain) == ''
