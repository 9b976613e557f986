"""A run that goes on for longer has the learning rates of one that was as long from the start."""

import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner

import bimm_mm.engine  # noqa: F401

BATCHES = 5


class Numbers(torch.utils.data.Dataset):
    def __len__(self):
        return 2 * BATCHES

    def __getitem__(self, index):
        return dict(inputs=torch.ones(1))


class OneWeight(BaseModel):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, inputs, mode='tensor'):
        return dict(loss=sum(inputs) * self.weight)


class NoteRates(Hook):
    def __init__(self):
        self.rates = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.rates.append(runner.optim_wrapper.optimizer.param_groups[0]['lr'])


def rates_of(folder, epochs, by_epoch, resume=False, end=None, lr=0.1, batch_size=2):
    """The learning rates of the iterations that are run, and what the log says."""
    unit = dict(by_epoch=True, convert_to_iter_based=True) if by_epoch else dict(by_epoch=False)
    size = 1 if by_epoch else BATCHES
    end = size * (epochs if end is None else end)
    sampler = 'DefaultSampler' if by_epoch else 'InfiniteSampler'
    train_cfg = dict(by_epoch=True, max_epochs=epochs)
    if not by_epoch:
        train_cfg = dict(type='IterBasedTrainLoop', max_iters=epochs * BATCHES)
    note = NoteRates()
    runner = Runner(
        model=OneWeight(),
        work_dir=str(folder),
        train_dataloader=dict(
            batch_size=batch_size,
            dataset=Numbers(),
            sampler=dict(type=sampler),
            collate_fn=pseudo_collate,
        ),
        train_cfg=train_cfg,
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=lr)),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.01, begin=0, end=size, **unit),
            dict(type='CosineAnnealingLR', T_max=end - size, begin=size, end=end, **unit),
        ],
        default_hooks=dict(
            logger=None,
            timer=None,
            checkpoint=dict(
                type='CheckpointHook', interval=1 if by_epoch else BATCHES, by_epoch=by_epoch
            ),
            exact_resume=dict(type='ExactResumeHook'),
        ),
        custom_hooks=[note],
        resume=resume,
        randomness=dict(seed=0),
        experiment_name=f'{folder}{epochs}{resume}{end}',
    )
    runner.train()
    return note.rates, max(folder.glob('*/*.log')).read_text()


@pytest.mark.parametrize('by_epoch', [True, False])
@pytest.mark.parametrize('at', [2, 4])
def test_more_epochs_go_on_with_the_new_schedule(tmp_path, by_epoch, at):
    """At the end of the old schedule, where its rate was 0, and in the middle of it."""
    whole, _ = rates_of(tmp_path / 'whole', 8, by_epoch)
    folder = tmp_path / 'longer'
    first, _ = rates_of(folder, 4, by_epoch)
    assert first[-1] < 0.02 * 0.1
    names = ('epoch_{}.pth', 1) if by_epoch else ('iter_{}.pth', BATCHES)
    start = folder / names[0].format(at * names[1])
    (folder / 'last_checkpoint').write_text(str(start))
    rates, log = rates_of(folder, 8, by_epoch, resume=True)
    assert rates == pytest.approx(whole[at * BATCHES :], rel=1e-9)
    assert rates[0] > 0.05
    assert 'end of CosineAnnealingLR was 20, now 40' in log


def test_another_rate_is_taken_too(tmp_path):
    rates_of(tmp_path, 4, True)
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_2.pth'))
    rates, log = rates_of(tmp_path, 4, True, resume=True, lr=0.2)
    whole, _ = rates_of(tmp_path / 'whole', 4, True, lr=0.2)
    assert rates == pytest.approx(whole[2 * BATCHES :])
    assert 'base_values of LinearLR was [0.1], now [0.2]' in log


def test_the_same_schedule_goes_on_to_the_bit_and_nothing_is_said(tmp_path):
    whole, _ = rates_of(tmp_path, 4, True)
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_2.pth'))
    rates, log = rates_of(tmp_path, 4, True, resume=True)
    assert rates == whole[2 * BATCHES :]
    assert 'The schedule is not' not in log and 'The schedule has ended' not in log


def test_another_batch_size_keeps_its_place_in_the_schedule(tmp_path):
    rates_of(tmp_path, 4, True)
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_2.pth'))
    rates, log = rates_of(tmp_path, 4, True, resume=True, batch_size=1)
    whole, _ = rates_of(tmp_path / 'whole', 4, True, batch_size=1)
    assert rates == pytest.approx(whole[4 * BATCHES :])
    assert 'another layout' in log and 'The schedule is not' not in log


def test_a_schedule_that_ends_before_the_run_is_told(tmp_path):
    rates_of(tmp_path, 4, True)
    rates, log = rates_of(tmp_path, 6, True, resume=True, end=4)
    assert max(rates) < 0.02 * 0.1
    assert 'The schedule has ended before iteration 20' in log
