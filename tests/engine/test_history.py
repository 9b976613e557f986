"""A short history says what mmengine's long one says, in a log, in a checkpoint, after a resume."""

import copy
import re
import time

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.model import BaseModel
from mmengine.runner import Runner

import bimm_mm.engine  # noqa: F401
from bimm_mm.engine.history import KEPT, LoggedScalars, RecentHistory


def pair(numbers):
    """The same values in mmengine's buffer and in ours."""
    whole, short = HistoryBuffer(), RecentHistory()
    for number in numbers:
        whole.update(number)
        short.update(number)
    return whole, short


@pytest.mark.parametrize('length', [1, 7, KEPT, KEPT + 1, 2 * KEPT + 3, 5 * KEPT])
def test_windows_of_kept_values_are_the_same_to_the_bit_and_all_values_nearly(length):
    numbers = np.random.default_rng(length).normal(size=length).tolist()
    whole, short = pair(numbers)
    assert len(short.data[0]) == min(length, KEPT)
    for window in (1, 5, 50, KEPT):
        for name in ('mean', 'min', 'max'):
            assert short.statistics(name, window) == whole.statistics(name, window)
    assert short.current() == whole.current()
    for window in (None, length, length + 1):
        assert short.mean(window) == pytest.approx(whole.mean(window), rel=1e-12)
        assert short.min(window) == whole.min(window) and short.max(window) == whole.max(window)


def test_an_epoch_longer_than_what_is_kept_has_its_own_mean():
    whole, short = pair(range(500))
    short.begin_epoch(1)
    for number in range(3000):
        whole.update(number)
        short.update(number)
    assert short.mean(3000) == whole.mean(3000)
    assert short.max(3000) == 2999
    short.begin_epoch(1)  # a run that is resumed in the middle of it
    assert short.mean(3000) == whole.mean(3000)


def test_integers_stay_integers_and_nan_stays_nan():
    _, short = pair([1, 2, 3])
    assert isinstance(short.current(), np.integer)
    _, short = pair([1.0, float('nan'), *([2.0] * 2 * KEPT)])
    assert np.isnan(short.mean()) and np.isnan(short.min()) and np.isnan(short.max())
    with pytest.raises(TypeError, match="log_val='1' and count=1 must be numbers"):
        short.update('1')


def test_a_checkpoint_holds_a_plain_history_that_goes_on_to_the_bit(tmp_path):
    numbers = np.random.default_rng(0).normal(size=3 * KEPT).tolist()
    _, short = pair(numbers)
    saved = copy.deepcopy(short)
    assert type(saved) is HistoryBuffer and len(saved.data[0]) == KEPT
    torch.save(dict(history=saved), tmp_path / 'checkpoint.pth')
    loaded = torch.load(tmp_path / 'checkpoint.pth', weights_only=True)['history']
    again = RecentHistory(loaded)
    for number in numbers:
        short.update(number)
        again.update(number)
    for window in (3, KEPT, None):
        assert again.mean(window) == short.mean(window)
    plain = HistoryBuffer([1.0, 3.0] * KEPT, [1] * 2 * KEPT)  # of a run without the hook
    assert RecentHistory(plain).mean() == 2


def test_adding_a_value_costs_the_same_after_a_million():
    """mmengine's buffer takes more than a hundred times as long."""

    def cost(history):
        times = []
        for _ in range(50):
            start = time.perf_counter()
            for _ in range(100):
                history.update(1.0)
            times.append(time.perf_counter() - start)
        return min(times)

    first = cost(RecentHistory())
    long = HistoryBuffer([1.0] * 10**6, [1] * 10**6)
    assert cost(RecentHistory(long)) < 1.5 * first


# values on the device -----------------------------------------------------------------------------


def test_values_on_the_device_are_read_together_and_in_order(monkeypatch):
    scalars = LoggedScalars({})
    for i in range(50):
        scalars.add_later('train/loss', torch.tensor(float(i)), 1)
        scalars.add_later('train/explained', torch.tensor([0.1 * i], dtype=torch.float64), 1)
        scalars.add('train/lr', 0.5, 1)
        scalars.gather()
    transfers = []
    tolist = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, 'tolist', lambda x: transfers.append(x.shape) or tolist(x))
    assert scalars['train/loss'].data[0].tolist() == list(range(50))
    assert scalars['train/explained'].current() == pytest.approx(4.9)
    assert transfers == [(50,), (50,)]  # one for each dtype
    assert set(scalars) == {'train/loss', 'train/explained', 'train/lr'}


def test_memory_that_is_used_again_loses_nothing():
    """A CUDA graph writes its losses into the same place each time."""
    scalars, loss = LoggedScalars({}), torch.zeros(())
    for i in range(3):
        loss.fill_(i)
        scalars.add_later('train/loss', loss, 1)
        scalars.gather()
    assert scalars['train/loss'].data[0].tolist() == [0, 1, 2]


# in a run -----------------------------------------------------------------------------------------


class Numbers(torch.utils.data.Dataset):
    def __len__(self):
        return 12

    def __getitem__(self, index):
        return dict(inputs=torch.ones(1))


class Model(BaseModel):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, inputs, mode='tensor'):
        return dict(loss=sum(inputs) * self.weight, explained_a=self.weight.detach() / 3)


class Stop(Hook):
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == 8:
            raise KeyboardInterrupt


def train(folder, name, history, resume=False, hooks=()):
    """What the log says of each iteration, and the last checkpoint."""
    runner = Runner(
        model=Model(),
        work_dir=str(folder / name),
        train_dataloader=dict(
            batch_size=2,
            dataset=Numbers(),
            sampler=dict(type='DefaultSampler'),
            collate_fn=pseudo_collate,
        ),
        train_cfg=dict(by_epoch=True, max_epochs=3),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1), clip_grad=dict(max_norm=1.5)),
        default_hooks=dict(
            checkpoint=dict(type='WholeCheckpointHook', by_epoch=False, interval=4),
            exact_resume=dict(type='ExactResumeHook'),
            logger=dict(type='LoggerHook', interval=1),
            **({} if history is None else dict(history=history)),
        ),
        custom_hooks=list(hooks),
        log_processor=dict(
            window_size=3,
            mean_pattern='loss|explained|grad_norm',
            custom_cfg=[
                dict(data_src='loss', log_name='all', method_name='mean', window_size='global'),
                dict(data_src='loss', log_name='low', method_name='min', window_size='epoch'),
            ],
        ),
        resume=resume,
        randomness=dict(seed=0),
        experiment_name=f'{folder}{name}{resume}',
    )
    try:
        runner.train()
    except KeyboardInterrupt:
        pass
    lines = max((folder / name).glob('*/*.log')).read_text().splitlines()
    lines = [line.partition('Epoch(train)')[2] for line in lines if 'Epoch(train)' in line]
    return [re.sub(r'(time|eta|data_time): \S+', '', line) for line in lines], runner


@pytest.mark.parametrize('leave_on', [(), ('cpu',)])
def test_the_log_says_the_same_with_a_short_history(tmp_path, leave_on, monkeypatch):
    monkeypatch.setattr('bimm_mm.engine.hooks.short_history_hook.KEPT', 3)
    short = dict(type='ShortHistoryHook', leave_on=leave_on)
    plain, _ = train(tmp_path, 'plain', None)
    assert len(plain) == 18
    assert all('grad_norm: 2.0000' in line for line in plain)
    with monkeypatch.context() as patch:
        if leave_on:  # as mmengine asks for the norm
            patch.setattr(torch.Tensor, '__float__', lambda self: pytest.fail('waits for it'))
        lines, runner = train(tmp_path, 'short', short)
    assert lines == plain
    assert all(len(h.data[0]) <= 3 for h in runner.message_hub.log_scalars.values())

    train(tmp_path, 'stopped', short, hooks=[Stop()])
    lines, resumed = train(tmp_path, 'stopped', short, resume=True)
    assert lines[-10:] == plain[8:]  # both runs write into one log where they start in one second
    for name, history in runner.message_hub.log_scalars.items():
        if 'time' not in name:
            assert vars(resumed.message_hub.log_scalars[name].all) == vars(history.all)


def test_a_longer_window_is_kept_whole(tmp_path, monkeypatch):
    monkeypatch.setattr('bimm_mm.engine.hooks.short_history_hook.KEPT', 1)
    _, runner = train(tmp_path, 'window', dict(type='ShortHistoryHook'))
    assert len(runner.message_hub.get_scalar('train/loss').data[0]) == 3  # log_processor's


def test_the_hub_is_any_other_hub():
    assert 'update_scalar' not in vars(MessageHub.get_instance('another'))
