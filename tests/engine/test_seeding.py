"""Where data go on after a checkpoint, without any training but of a model of one weight."""

import inspect
import os
import random

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler, pseudo_collate
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.utils.data import BatchSampler, DataLoader, IterableDataset

from bimm_mm.engine.global_batches import share_batches
from bimm_mm.engine.loader import number_batches
from bimm_mm.engine.seeding import NumberedBatches, SeededDataset, derive_seed
from bimm_mm.utils.workers import SOURCES


class Draws(torch.utils.data.Dataset):
    """Samples that show what the three generators give."""

    metainfo = dict(classes=('a',))

    def __len__(self):
        return 10

    def __getitem__(self, index):
        return index, random.random(), np.random.rand(), torch.rand(()).item()


def loader(workers=0, sampler=DefaultSampler, epoch=0, start=(0, 0), rank=0, processes=1, size=3):
    dataset = Draws()
    plain = DataLoader(
        dataset,
        batch_size=size,
        sampler=sampler(dataset, shuffle=True, seed=5),
        num_workers=workers,
        collate_fn=pseudo_collate,
        drop_last=True,
    )
    numbered = number_batches(plain, seed=1, rank=rank, processes=processes)
    numbered.batch_sampler.epoch, numbered.batch_sampler.start = epoch, start
    numbered.batch_sampler.sampler.set_epoch(epoch)
    return numbered


def take(loader, count=3):
    return [tuple(map(tuple, batch)) for _, batch in zip(range(count), loader, strict=False)]


def test_samples_do_not_depend_on_workers_or_on_what_was_drawn_before():
    wanted = take(loader())
    torch.manual_seed(7)
    assert take(loader()) == wanted
    assert take(loader(workers=2)) == wanted
    flat = [sample for batch in wanted for sample in zip(*batch, strict=True)]
    assert all(len(set(values)) == 9 for values in zip(*flat, strict=True))


def test_other_epochs_processes_and_seeds_draw_otherwise():
    shares = loader(processes=2), loader(rank=1, processes=2)
    for first, other in ((loader(), loader(epoch=1)), shares):
        wanted = {value for batch in take(first) for value in batch[1]}
        assert wanted.isdisjoint(value for batch in take(other) for value in batch[1])
    assert derive_seed(0, 1) != derive_seed(1, 0)


@pytest.mark.parametrize('sampler', [DefaultSampler, InfiniteSampler])
@pytest.mark.parametrize('processes', [2, 3])
def test_processes_share_the_batches_of_one(sampler, processes):
    """With the samples' augmentations; 10 samples are no multiple of 6."""
    whole = take(loader(sampler=sampler, size=6, epoch=2))
    shares = [
        take(loader(0, sampler, 2, (0, 0), rank, processes, 6 // processes))
        for rank in range(processes)
    ]
    together = [
        tuple(sum((part[field] for part in parts), ()) for field in range(4))
        for parts in zip(*shares, strict=True)
    ]
    assert together == whole and len(whole) == (3 if sampler is InfiniteSampler else 1)


def test_the_last_batch_is_filled_up_to_as_many_samples_in_each_process():
    plain = BatchSampler(DefaultSampler(range(9), shuffle=False), 2, drop_last=False)
    shares = [list(share_batches(plain, rank, 3)) for rank in range(3)]
    assert shares == [[[0, 1], [6]], [[2, 3], [7]], [[4, 5], [8]]]
    plain = BatchSampler(DefaultSampler(range(7), shuffle=False), 2, drop_last=False)
    assert [list(share_batches(plain, rank, 3))[-1] for rank in range(3)] == [[6], [0], [1]]
    assert len(share_batches(plain, 0, 3)) == 2


def test_data_go_on_in_the_middle_of_an_epoch_and_the_next_is_whole():
    wanted = take(loader(epoch=4))
    resumed = loader(epoch=4, start=(4, 2))
    assert take(resumed) == wanted[2:]
    resumed.batch_sampler.epoch = 5
    resumed.batch_sampler.sampler.set_epoch(5)
    assert take(resumed) == take(loader(epoch=5))
    assert take(loader(epoch=4, start=(4, 3))) == []


@pytest.mark.parametrize('workers', [0, 2])
def test_an_endless_sampler_starts_where_it_should_whatever_was_read_in_advance(workers):
    wanted = take(loader(sampler=InfiniteSampler), 8)
    resumed = loader(workers, sampler=InfiniteSampler, start=(0, 5))
    next(iter(resumed.batch_sampler.sampler))  # mmengine's loop reads from it before it is replaced
    assert take(resumed, 3) == wanted[5:]


def test_batches_remember_their_samples_by_the_iteration():
    numbered = loader(start=(0, 1)).batch_sampler
    numbered.iteration = 100
    batches = [[index for index, _ in batch] for batch in numbered]
    assert [numbered.indices_of(i) for i in (100, 101, 102)] == [*batches, []]


def test_the_dataset_is_still_the_dataset():
    dataset = SeededDataset(Draws())
    assert len(dataset) == 10 and dataset.metainfo == Draws.metainfo
    with pytest.raises(AttributeError, match='nonsense'):
        dataset.nonsense  # noqa: B018


def test_what_has_no_sequence_is_refused():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(range(3))

    with pytest.raises(TypeError, match='train_dataloader, of Stream, draws no batches'):
        number_batches(DataLoader(Stream()), seed=0, rank=0)
    with pytest.raises(TypeError, match='train_dataloader, of Draws, draws no batches'):
        number_batches(DataLoader(Draws(), batch_size=None), seed=0, rank=0)


class Workers(torch.utils.data.Dataset):
    """Each worker process that makes a sample leaves a file."""

    def __init__(self, folder):
        self.folder = folder

    def __len__(self):
        return 100

    def __getitem__(self, index):
        (self.folder / str(os.getpid())).touch()
        return dict(inputs=torch.ones(1))


class OneWeight(BaseModel):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, inputs, mode='tensor'):
        return dict(loss=sum(inputs) * self.weight)


@pytest.mark.parametrize('exact', [True, False])
def test_a_run_by_iterations_starts_its_workers_once(tmp_path, exact):
    seen = tmp_path / 'workers'
    seen.mkdir()
    hooks = dict(exact_resume=dict(type='ExactResumeHook')) if exact else {}
    Runner(
        model=OneWeight(),
        work_dir=str(tmp_path),
        train_dataloader=dict(
            batch_size=2,
            num_workers=2,
            dataset=Workers(seen),
            sampler=dict(type='InfiniteSampler'),
            collate_fn=pseudo_collate,
        ),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=5),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        default_hooks=dict(logger=None, timer=None, checkpoint=None) | hooks,
        randomness=dict(seed=0),
        experiment_name=f'workers {exact}',
    ).train()
    assert len(list(seen.iterdir())) == 2


def test_no_setting_of_the_loader_is_lost():
    settings = dict(
        num_workers=2,
        collate_fn=pseudo_collate,
        pin_memory=True,
        pin_memory_device='cuda:1',
        timeout=3,
        worker_init_fn=print,
        multiprocessing_context='spawn',
        generator=torch.Generator(),
        prefetch_factor=5,
        persistent_workers=True,
        in_order=False,
    )
    assert set(settings) == set(inspect.signature(DataLoader).parameters) - SOURCES
    plain = DataLoader(Draws(), batch_size=2, **settings)
    numbered = number_batches(plain, seed=0, rank=0)
    found = {name: getattr(numbered, name) for name in settings}
    found['collate_fn'] = found['collate_fn'].collate
    assert found == {name: getattr(plain, name) for name in settings}


def test_the_length_is_that_of_all_batches():
    assert len(NumberedBatches(BatchSampler(range(10), 4, drop_last=False), 0, 0)) == 3
