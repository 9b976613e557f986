"""Hooks that set something for the process: garbage collection, the precision of products."""

import gc
from types import SimpleNamespace

import pytest
import torch

from bimm_mm.engine import GarbageCollectionHook, MatmulPrecisionHook


@pytest.fixture(autouse=True)
def as_before():
    precision = torch.get_float32_matmul_precision()
    yield
    gc.enable()
    torch.set_float32_matmul_precision(precision)


def test_garbage_is_collected_at_the_intervals_and_at_no_other_time(monkeypatch):
    collected, runner = [], SimpleNamespace(iter=0)
    hook = GarbageCollectionHook(interval=2, full_interval=6)
    hook.before_train(runner)
    assert not gc.isenabled()
    monkeypatch.setattr(gc, 'collect', lambda *args: collected.append((runner.iter + 1, *args)))
    for runner.iter in range(8):
        hook.after_train_iter(runner, runner.iter)
    assert collected == [(2, 1), (4, 1), (6,), (8, 1)]
    hook.after_train(runner)
    assert gc.isenabled()


def test_where_it_was_off_it_stays_off():
    gc.disable()
    hook = GarbageCollectionHook()
    hook.before_train(None)
    hook.after_train(None)
    assert not gc.isenabled()


def test_products_take_the_precision_that_is_asked_for():
    MatmulPrecisionHook('high').before_run(None)
    assert torch.get_float32_matmul_precision() == 'high'


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="precision='tf32' must be one of highest, high, medium"):
        MatmulPrecisionHook('tf32')
    with pytest.raises(ValueError, match='interval=0'):
        GarbageCollectionHook(interval=0)
