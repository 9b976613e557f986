"""The benchmark of whole iterations runs on the demo's config."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / 'benchmarks/iteration.py'


@pytest.mark.parametrize('plain', [False, True])
def test_an_iteration_is_timed_with_both_logs_beside_its_step(plain):
    spec = spec_from_file_location('iteration', PATH)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    seconds = module.measure(str(module.DEMO), iterations=2, logged=100, plain=plain)
    assert all(seconds[part] > 0 for part in ('step', 'first', 'long'))
