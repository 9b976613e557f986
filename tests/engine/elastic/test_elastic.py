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
import torch.nn.functional as F

from bimm_mm.models.layers.axial import attend_with_dropout
from bimm_mm.utils import draws

LONG = bool(os.environ.get('BIMM_LONG_TESTS'))
ITERATIONS = 20 if LONG else 4
METHODS = ['joint', 'joint_drop_path', 'ventral', 'dorsal', 'mae', 'videomae', 'videomaev2',
           'maskfeat', 'vjepa', 'blocks', 'bevt', 'mam2', 'tgm', 'vimpac', 'mgmae', 'mgm',
           'adamae']  # fmt: skip
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
    x = torch.randn(6, 3, 7)
    with draws.global_batch(3):
        whole = draws.rand((2, 6, 5), dim=1), draws.randint(9, (6, 4)), draws.rand_once()
        dropped = draws.dropout(x, 0.4)
    parts, dropped_parts = [], []
    for rank in range(3):
        with draws.global_batch(3, rank, 3):
            parts.append(
                (draws.rand((2, 2, 5), dim=1), draws.randint(9, (2, 4)), draws.rand_once())
            )
            dropped_parts.append(draws.dropout(x[2 * rank :][:2], 0.4))
    assert torch.equal(torch.cat(dropped_parts), dropped)
    floats, integers, once = zip(*parts, strict=True)
    assert torch.equal(torch.cat(floats, dim=1), whole[0])
    assert torch.equal(torch.cat(integers), whole[1]) and set(once) == {whole[2]}
    assert set(whole[1].flatten().tolist()) <= set(range(9))


@pytest.mark.parametrize('rate', [0.0, 0.1, 0.5, 1.0])
def test_dropout_leaves_out_its_share_anywhere_and_keeps_the_sum(rate):
    x = torch.ones(50, 40, 101, requires_grad=True)
    with draws.global_batch(5):
        dropped = draws.dropout(x, rate)
        assert torch.equal(draws.dropout(x, rate, training=False), x)
    left_out = (dropped == 0).double()
    assert abs(left_out.mean() - rate) < 0.004  # 5 standard deviations
    assert (left_out.mean(dim=(0, 1)) - rate).abs().max() < 0.06  # of each channel
    kept = dropped[dropped != 0]
    assert (kept - 1 / (1 - rate or 1)).abs().max() < 1e-3 if rate < 1 else not len(kept)
    dropped.sum().backward()
    assert torch.equal(x.grad, dropped.detach())


def test_attention_with_dropout_by_samples_is_attention_with_dropout():
    """Of nothing, by torch's fused one; of 0.3, without bias."""
    query, key, value = torch.randn(3, 4, 2, 9, 5).unbind()  # 2 samples of 2 lines
    mask = torch.rand(4, 1, 1, 9) < 0.7
    mask[..., 0] = True
    wanted = F.scaled_dot_product_attention(query, key, value, mask)
    with draws.global_batch(1):
        assert torch.allclose(
            attend_with_dropout(query, key, value, mask, 1e-9, 2), wanted, atol=1e-6
        )
        drawn = [attend_with_dropout(query, key, value, mask, 0.3, 2) for _ in range(1000)]
    assert not torch.equal(drawn[0], drawn[1])
    assert (torch.stack(drawn).mean(dim=0) - wanted).abs().max() < 0.2


def test_without_a_global_batch_or_with_a_generator_torch_draws():
    torch.manual_seed(0)
    wanted = torch.rand(2, 3)
    torch.manual_seed(0)
    assert torch.equal(draws.rand((2, 3)), wanted)
    with draws.global_batch(0):
        assert torch.equal(draws.rand((2, 3), generator=torch.Generator().manual_seed(0)), wanted)
        assert not torch.equal(draws.rand((2, 3)), wanted)
