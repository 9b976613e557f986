"""The benchmark of whole iterations runs on the demo's config."""

import pytest


@pytest.mark.parametrize('plain', [False, True])
def test_an_iteration_is_timed_with_both_logs_beside_its_step(load_script, plain):
    module = load_script('benchmarks/iteration.py')
    seconds = module.measure(str(module.DEMO), iterations=2, logged=100, plain=plain)
    assert all(seconds[part] > 0 for part in ('step', 'first', 'long'))
