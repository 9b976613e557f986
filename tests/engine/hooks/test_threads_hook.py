"""ThreadsHook takes the number of threads that is fastest, and a resumed run the same again."""

import logging
import time
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from bimm_mm.engine.hooks import threads_hook
from bimm_mm.engine.hooks.threads_hook import ThreadsHook, fastest, first_block
from bimm_mm.models.layers import TransformerBlock


class Threads:
    """Stands for torch's number of threads."""

    def __init__(self, number):
        self.number = number

    def set(self, number):
        self.number = number


@pytest.fixture
def threads(monkeypatch):
    pool = Threads(8)
    monkeypatch.setattr(torch, 'get_num_threads', lambda: pool.number)
    monkeypatch.setattr(torch, 'set_num_threads', pool.set)
    monkeypatch.setattr(threads_hook, '_picked', {})
    for name in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS'):
        monkeypatch.delenv(name, raising=False)
    return pool


class Best(nn.Module):
    """A block that takes the longer, the further the number of threads is from one."""

    def __init__(self, pool, best):
        super().__init__()
        self.linear, self.pool, self.best = nn.Linear(4, 4), pool, best
        self.seen = []

    def forward(self, x):
        self.seen.append(self.pool.number)
        time.sleep(0.004 * abs(self.pool.number - self.best))
        return self.linear(x)


def runner_of(model=None, **settings):
    model = model or nn.Linear(2, 2)
    logger = logging.getLogger('test_threads')
    return SimpleNamespace(**dict(model=model, logger=logger, _resume=False) | settings)


@pytest.mark.parametrize('best', [1, 2, 4, 8])
def test_the_fastest_number_is_found_and_nothing_else_changes(threads, best):
    block = Best(threads, best)
    state = torch.get_rng_state()
    assert fastest(block, 8, rounds=3) == best
    assert set(block.seen) == {8, 4, 2, 1}
    assert threads.number == 8 and torch.equal(torch.get_rng_state(), state)


def test_a_run_takes_it_once_for_all_runs_of_the_process_and_sets_it_back(threads, monkeypatch):
    asked = []
    monkeypatch.setattr(threads_hook, 'fastest', lambda *args: asked.append(args) or 2)
    for _ in range(2):
        hook, checkpoint = ThreadsHook(), dict(meta={})
        hook.before_train(runner_of())
        assert threads.number == 2
        hook.before_save_checkpoint(runner_of(), checkpoint)
        assert checkpoint['meta']['threads'] == 2
        hook.after_train(runner_of())
        assert threads.number == 8
    assert len(asked) == 1


def test_a_resumed_run_takes_the_number_that_it_had(threads, monkeypatch):
    monkeypatch.setattr(threads_hook, 'fastest', lambda *args: 1)
    hook = ThreadsHook()
    hook.after_load_checkpoint(runner_of(_resume=True), dict(meta=dict(threads=4)))
    hook.before_train(runner_of())
    assert threads.number == 4


@pytest.mark.parametrize('why', ['told', 'distributed', 'one', 'gpu'])
def test_nothing_is_tried_where_there_is_nothing_to_choose(threads, monkeypatch, why):
    monkeypatch.setattr(threads_hook, 'fastest', lambda *args: pytest.fail('tried'))
    model = nn.Linear(2, 2)
    if why == 'told':
        monkeypatch.setenv('OMP_NUM_THREADS', '8')
    if why == 'one':
        threads.number = 1
    if why == 'gpu':
        model = model.to('meta')
    before = threads.number
    monkeypatch.setattr(threads_hook, 'is_distributed', lambda: why == 'distributed')
    ThreadsHook().before_train(runner_of(model))
    assert threads.number == before


def test_the_trial_is_of_the_models_own_blocks_and_leaves_them_alone():
    model = nn.Sequential(nn.Linear(2, 2), TransformerBlock(12, 3))
    block = first_block(model)
    assert block is not model[1] and block.attn.qkv.in_features == 12
    fastest(block, 1, rounds=1)
    assert all(p.grad is None for p in model.parameters())
    assert first_block(nn.Linear(2, 2)).attn.qkv.in_features == 96
    with pytest.raises(ValueError, match='rounds=0'):
        ThreadsHook(0)


def test_windows_and_frozen_blocks_are_tried_as_others_are():
    model = nn.Sequential(TransformerBlock(16, 2, window_size=2)).requires_grad_(False)
    number = torch.get_num_threads()
    assert 1 <= fastest(first_block(model), number, rounds=1) <= number
    assert model[0].window_size == 2 and not model[0].norm1.weight.requires_grad
