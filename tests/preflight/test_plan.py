"""The plan of a run: what an iteration takes in the long run, and which change gains what."""

import pytest

from bimm_mm.preflight.loading import LoaderRate
from bimm_mm.preflight.plan import Advice, Plan, checkpoint_advice, loader_advice, rank

AMP = Advice('mixed precision', flags=('--amp',), step=0.5)
COMPILE = Advice('compiled blocks', step=0.9)
LARGER = Advice('batches of 64', step=0.8, changes='a total batch of 64')


def plan(batches: float, workers: int = 2, **changes) -> Plan:
    """1,000 iterations of 1 s, of which the step takes 0.9 and hooks 0.1."""
    rate = LoaderRate(batches, workers, cores=8)
    settings = dict(iterations=1000, iteration=1.0, waiting=0.0, step=0.9, loader=rate)
    return Plan(**settings | changes)


def test_an_iteration_takes_what_the_slower_of_step_and_loader_takes():
    assert plan(batches=4).iteration_seconds() == 1.0
    assert plan(batches=0.5).iteration_seconds() == 2.0
    assert plan(batches=4).iteration_seconds([AMP]) == pytest.approx(0.1 + 0.45)
    assert plan(batches=1.25).iteration_seconds([AMP]) == 0.8


def test_a_process_that_loads_by_itself_does_so_before_each_step():
    assert plan(batches=2, workers=0).iteration_seconds() == 1.5
    assert plan(batches=2, workers=0).iteration_seconds([Advice('', workers=1)]) == 1.0


def test_what_was_waited_in_the_first_iterations_is_no_part_of_the_work():
    assert plan(batches=4, iteration=1.5, waiting=0.5).iteration_seconds() == 1.0


def test_checkpoints_count_in_the_run():
    run = plan(batches=4, checkpoints=10, checkpoint_seconds=30.0)
    assert run.seconds() == 1000 + 300


def test_more_workers_are_advised_as_many_as_the_faster_step_needs():
    slow = plan(batches=0.5)  # each of the two workers makes a quarter of a batch a second
    (advice,) = loader_advice(slow, [])
    assert advice.workers == 5  # 1.25 batches a second
    assert 'train_dataloader.num_workers=5' in advice.options
    (advice,) = loader_advice(slow, [AMP])
    assert advice.workers == 8
    (advice,) = loader_advice(slow, [Advice('', step=0.1)])
    assert advice.workers == 8  # there are no more cores
    assert 'of 24 wanted' in advice.what
    assert loader_advice(plan(batches=4), [AMP]) == []


def test_advice_is_in_order_of_its_gain_and_without_what_gains_nothing():
    nothing = Advice('TF32', step=0.995)
    advised = rank(plan(batches=10), [COMPILE, nothing, LARGER, AMP], ['x'])
    assert advised.changes == [AMP, COMPILE]
    assert [change for change, _ in advised.consider] == [LARGER]
    gains = [gain for _, gain in advised.take]
    assert gains[0] == pytest.approx((0.1 + 0.81) / (0.1 + 0.405) - 1)
    assert advised.tried == ['x']


def test_a_faster_step_gains_nothing_where_the_loader_is_slower_unless_that_is_mended():
    slow = plan(batches=0.5)
    assert rank(slow, [AMP], []).changes == []
    advised = rank(slow, [AMP, *loader_advice(slow, [AMP])], [])
    assert [change.workers for change in advised.changes] == [8, None]


def test_checkpoints_that_take_too_long_come_less_often():
    assert (
        checkpoint_advice(plan(batches=4, checkpoints=1, checkpoint_seconds=1.0), 5, 'epochs') == []
    )
    often = plan(batches=4, checkpoints=100, checkpoint_seconds=5.0)  # a third of the run
    (advice,) = checkpoint_advice(often, 5, 'epochs')
    assert often.seconds([advice]) < 1.03 * 1000
    assert often.gain(advice, [advice]) > 0.4
    assert advice.what.endswith(' epochs instead of 5')
    assert advice.options[0].startswith('default_hooks.checkpoint.interval=')
