"""Trainings that are killed at random moments and resumed have the losses of undisturbed ones.

``BIMM_LONG_TESTS=1 python -m pytest tests/faults -s`` kills 20 times and prints the figures.
"""

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from bimm_mm import compat

KILLS = 20 if os.environ.get('BIMM_LONG_TESTS') else 2
LOOPS = ('epoch', 'iter')  # half of the kills each
ITERATIONS = 30


@pytest.fixture(scope='module')
def run() -> Iterator[Callable]:
    """What runs a training to its end or its death, and returns its exit code."""
    program = Path(__file__).with_name('training.py')
    root = program.parents[2]
    env = os.environ | {
        'OMP_NUM_THREADS': '1',
        'CUDA_VISIBLE_DEVICES': '',
        'PYTHONPATH': f'{root}{os.pathsep}{os.environ.get("PYTHONPATH", "")}',
        'PYTHONWARNINGS': 'ignore',
    }
    with subprocess.Popen(
        [sys.executable, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
    ) as process:

        def give_order(loop: str, folder: Path, kill_after: tuple | None = None) -> int:
            folder.mkdir(exist_ok=True)
            order = dict(loop=loop, work_dir=str(folder), kill_after=kill_after)
            process.stdin.write(json.dumps(order) + '\n')
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield give_order
        process.stdin.close()


def losses(folder: Path) -> dict[int, set[str]]:
    """Per iteration, what it gave, each time it was run."""
    found: dict[int, set[str]] = {}
    for line in (folder / 'losses.txt').read_text().splitlines():
        iteration, loss = line.split()
        found.setdefault(int(iteration), set()).add(loss)
    return found


def is_writing(folder: Path) -> bool:
    """Whether a kill fell between the first and the last step of writing a checkpoint."""
    checkpoints = sorted(folder.glob('*.pth'), key=lambda path: path.stat().st_mtime_ns)
    last = folder / 'last_checkpoint'
    named = Path(last.read_text()) if last.is_file() else None
    too_many = len(checkpoints) > 2  # before an outdated one is removed
    return bool(
        list(folder.glob('.*.tmp')) or too_many or (checkpoints and checkpoints[-1] != named)
    )


def state(folder: Path) -> dict:
    compat.allow_checkpoint_classes()
    (path,) = [p for p in folder.glob('*.pth') if str(ITERATIONS) in p.name]
    checkpoint = torch.load(path, weights_only=True)
    return {key: checkpoint[key] for key in ('state_dict', 'optimizer', 'param_schedulers')}


def assert_equal(first: object, second: object, where: str = '') -> None:
    assert type(first) is type(second), where
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second), where
    elif isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key in first:
            assert_equal(first[key], second[key], f'{where}.{key}')
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), where
        for index, pair in enumerate(zip(first, second, strict=True)):
            assert_equal(*pair, f'{where}[{index}]')
    else:
        assert first == second, where


def test_killed_and_resumed_runs_have_the_losses_of_undisturbed_ones(run, tmp_path, capsys):
    chance = random.Random(0)
    kills = compared = again = in_writing = 0
    for loop in LOOPS:
        whole = tmp_path / loop
        assert run(loop, whole) == 0
        wanted = losses(whole)
        assert sorted(wanted) == list(range(ITERATIONS))
        assert all(len(found) == 1 for found in wanted.values())
        assert len({min(found) for found in wanted.values()}) == ITERATIONS

        wanted_kills = kills + KILLS // len(LOOPS)
        for attempt in range(KILLS):
            folder = tmp_path / f'{loop}_{attempt}'
            while kills < wanted_kills:
                writing = kills % 2 == 0  # every other kill is aimed at the writing of a checkpoint
                moment = chance.randint(1, 9), chance.uniform(0, 0.3), writing
                code = run(loop, folder, moment)
                assert code in (0, -9), f'a run failed after {kills} kills'
                if code == 0:  # it ended before it was killed; the next starts anew
                    break
                kills += 1
                in_writing += is_writing(folder)
            assert run(loop, folder) == 0
            found = losses(folder)
            assert found == wanted, f'{loop}: other losses after {kills} kills'
            assert_equal(state(folder), state(whole))
            assert not list(folder.glob('.*.tmp'))
            compared += len(found)
            again += (folder / 'losses.txt').read_text().count('\n') - len(found)
            if kills == wanted_kills:
                break
    with capsys.disabled():
        print(
            f'\n{kills} kills survived, {in_writing} of them while a checkpoint was written; '
            f'{compared} iterations compared bit for bit ({again} of them were run again), '
            'lost or different: none'
        )
