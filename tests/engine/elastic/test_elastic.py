"""At one global batch, any number of processes has the samples, masks and losses of one.

``BIMM_LONG_TESTS=1`` runs 20 iterations on 1, 2 and 4 processes, in place of 4 on 1 and 2.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bimm_mm.utils import draws

LONG = bool(os.environ.get('BIMM_LONG_TESTS'))
ITERATIONS = 20 if LONG else 4
METHODS = ['joint', 'joint_drop_path', 'mae', 'videomae', 'videomaev2', 'maskfeat', 'vjepa',
           'blocks', 'bevt', 'mam2', 'tgm', 'vimpac']  # fmt: skip
OTHERS = [2, 4] if LONG else [2]


def start(folder: Path, processes: int, attempt: str, *methods: str) -> None:
    """Run methods one after the other on so many processes."""
    env = os.environ | dict(OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='', ATTEMPT=attempt)
    program = [sys.executable, str(Path(__file__).with_name('training.py'))]
    started = [
        subprocess.Popen(
            [*program, str(rank), str(processes), str(folder), str(ITERATIONS), *methods],
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]
    errors = [process.communicate(timeout=1800)[1] for process in started]
    assert not any(process.returncode for process in started), '\n'.join(errors)[-4000:]


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """What all methods did on each number of processes, and one on changing numbers."""
    folder = tmp_path_factory.mktemp('elastic')
    half = ITERATIONS // 2
    start(folder, 2, 'whole', *METHODS, f'joint_drop_path:{half}')
    start(folder, 1, 'whole', *METHODS, f'joint_drop_path:{half + 1}+')
    if LONG:
        start(folder, 4, 'whole', *METHODS)
    start(folder, max(OTHERS), 'last', 'joint_drop_path+')
    return folder


def noted(folder: Path, method: str, processes: int) -> dict:
    return json.loads((folder / method / f'noted_{processes}.json').read_text())


@pytest.mark.parametrize('processes', OTHERS)
@pytest.mark.parametrize('method', METHODS)
def test_samples_masks_and_losses_are_those_of_one_process(folder, method, processes):
    one, others = noted(folder, method, 1), noted(folder, method, processes)
    assert list(one) == list(map(str, range(ITERATIONS)))
    for iteration, (loss, seen) in one.items():
        assert others[iteration][1] == seen, f'{method}: other samples or masks in {iteration}'
        assert others[iteration][0] == pytest.approx(loss, abs=1e-5, rel=1e-5)
    assert len({loss for loss, _ in one.values()}) == ITERATIONS
    assert len({tuple(seen) for _, seen in one.values()}) == ITERATIONS


def test_a_run_goes_on_exactly_on_other_numbers_of_processes(folder):
    whole = noted(folder, 'joint_drop_path', 1)
    parts = noted(folder, 'joint_drop_path_parts', 1) | noted(
        folder, 'joint_drop_path_parts', max(OTHERS)
    )
    assert len(parts) >= ITERATIONS // 2
    for iteration, (loss, seen) in parts.items():
        assert seen == whole[iteration][1]
        assert loss == pytest.approx(whole[iteration][0], abs=1e-5, rel=1e-5)
    log = ''.join(path.read_text() for path in (folder / 'joint_drop_path_parts').rglob('*.log'))
    assert 'no longer bit-exact' not in log


@pytest.mark.parametrize('room', ['masking', 'selfsup'])
def test_what_is_drawn_for_samples_is_drawn_by_their_places(room):
    """By bimm_mm.utils.draws; torch would draw other numbers for another part of the batch."""
    files = (Path(draws.__file__).parents[1] / 'models' / room).glob('*.py')
    calls = re.compile(
        r'torch\.(rand|randn|randint|randperm|bernoulli|multinomial)\(|_like\(.*rand'
    )
    found = [file.name for file in files if calls.search(file.read_text())]
    assert not found


# the numbers themselves ---------------------------------------------------------------------------


def test_numbers_are_uniform_and_rows_and_calls_have_nothing_in_common():
    with draws.global_batch(7):
        first, second = draws.rand((64, 4096)), draws.rand((64, 4096))
    assert first.min() >= 0 and first.max() < 1
    counts = torch.histc(first.double(), 64, 0, 1)
    expected = first.numel() / 64
    chi = ((counts - expected).square() / expected).sum()
    assert 25 < chi < 115  # 63 degrees of freedom: 1 in 10,000 lies outside
    rows = torch.cat([first, second]) - 0.5
    likeness = torch.corrcoef(rows) - torch.eye(128)
    assert likeness.abs().max() < 6 / 4096**0.5
    assert torch.corrcoef((first[:, 1:] - 0.5).flatten()[None]).isfinite()
    neighbors = torch.stack([first[:, 1:].flatten(), first[:, :-1].flatten()])
    assert torch.corrcoef(neighbors)[0, 1].abs() < 6 / neighbors.shape[1] ** 0.5


def test_a_batch_in_parts_draws_what_it_draws_whole():
    with draws.global_batch(3):
        whole = draws.rand((2, 6, 5), dim=1), draws.randint(9, (6, 4)), draws.rand_once()
    parts = []
    for rank in range(3):
        with draws.global_batch(3, rank, 3):
            parts.append(
                (draws.rand((2, 2, 5), dim=1), draws.randint(9, (2, 4)), draws.rand_once())
            )
    floats, integers, once = zip(*parts, strict=True)
    assert torch.equal(torch.cat(floats, dim=1), whole[0])
    assert torch.equal(torch.cat(integers), whole[1]) and set(once) == {whole[2]}
    assert set(whole[1].flatten().tolist()) <= set(range(9))


def test_without_a_global_batch_or_with_a_generator_torch_draws():
    torch.manual_seed(0)
    wanted = torch.rand(2, 3)
    torch.manual_seed(0)
    assert torch.equal(draws.rand((2, 3)), wanted)
    with draws.global_batch(0):
        assert torch.equal(draws.rand((2, 3), generator=torch.Generator().manual_seed(0)), wanted)
        assert not torch.equal(draws.rand((2, 3)), wanted)
