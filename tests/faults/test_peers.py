"""Processes of a distributed run are killed or hang, and the run goes on by itself.

``BIMM_LONG_TESTS=1 python -m pytest tests/faults -s`` does it with 20 kills of one of three
processes and 10 hangs, and prints the figures.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch.distributed as dist

from bimm_mm.engine import watch
from bimm_mm.engine.hooks.fault_injector_hook import FaultInjectorHook
from bimm_mm.engine.watch import tell_hanging, waits

REPO = Path(__file__).parents[2]
LONG = bool(os.environ.get('BIMM_LONG_TESTS'))
CONFIG = """
custom_imports = dict(imports=['bimm_mm', 'peers_parts'], allow_failed_imports=False)
decoder = dict(type='TransformerDecoder', embed_dims=12, depth=1, num_heads=2)
model = dict(
    type='MaskedPretrainer',
    backbone=dict(
        type='BimmViT', arch=dict(embed_dims=24, depth=2, num_heads=2), img_size=16, patch_size=4,
        num_frames=4, stage_ends=(2,), drop_path_rate=0.2,
    ),
    masking=dict(type='TubeMasking', ratio=0.75),
    neck=dict(type='MultiStageDecoder', decoders=[decoder]),
    targets=[dict(type='PixelTarget')],
)
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(type='MovingShapesDataset', length=24, size=16, num_frames=4),
)
train_cfg = dict(type='IterBasedTrainLoop', max_iters={iterations})
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=1e-3))
default_hooks = dict(
    checkpoint=dict(type='WholeCheckpointHook', by_epoch=False, interval=2, max_keep_ckpts=2),
    exact_resume=dict(type='ExactResumeHook'),
    stop=dict(type='StopOnSignalHook'),
    watch=dict(type='PeerWatchHook', timeout={timeout}, other_timeout={other}, every=1),
    logger=None,
)
custom_hooks = [dict(type='NoteMeanLoss'), {injector}]
randomness = dict(seed=0, diff_rank_seed=True)
log_level = 'WARNING'
"""


def prepare(folder: Path, iterations: int, timeout: float = 30, **faults) -> None:
    """Write the config of a run into a new folder."""
    folder.mkdir()
    injector = f'dict(type="FaultInjectorHook", **{faults!r})' if faults else ''
    settings = dict(iterations=iterations, timeout=timeout, other=max(timeout, 40))
    (folder / 'peers.py').write_text(CONFIG.format(injector=injector, **settings))


def start(folder: Path, processes: int, restarts: int = 0, **nodes: str) -> subprocess.Popen:
    """Run tools/dist_train.sh; ``nodes`` are variables of its environment."""
    env = os.environ | dict(
        PYTHONPATH=f'{REPO}{os.pathsep}{Path(__file__).parent}',
        PATH=f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}',
        VIRTUAL_ENV=str(Path(sys.executable).parents[1]),
        CUDA_VISIBLE_DEVICES='',
        OMP_NUM_THREADS='1',
    )
    command = ['bash', str(REPO / 'tools/dist_train.sh'), 'peers.py', str(processes)]
    command += ['--max-restarts', str(restarts), '--global-batch-size', '6', '--work-dir', '.']
    nowhere, pipe = subprocess.DEVNULL, subprocess.PIPE
    return subprocess.Popen(
        command, cwd=folder, env=env | nodes, stdout=nowhere, stderr=pipe, text=True
    )


def train(folder: Path, processes: int, timeout: float = 30, restarts: int = 0, **faults) -> str:
    """Run tools/dist_train.sh to its end; what it wrote to stderr."""
    prepare(folder, faults.pop('iterations'), timeout, **faults)
    process = start(folder, processes, restarts)
    said = process.communicate(timeout=7200)[1]
    assert process.returncode == 0, said[-4000:]
    return said


def losses(folder: Path) -> dict[int, list[float]]:
    """Per iteration, what it gave, each time it was run."""
    found: dict[int, list[float]] = {}
    for line in (folder / 'losses.txt').read_text().splitlines():
        iteration, loss, _ = line.split()
        found.setdefault(int(iteration), []).append(float(loss))
    return found


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def check(folder: Path, wanted: dict[int, list[float]]) -> list[dict]:
    """That nothing was lost, and all hangs were told; the faults."""
    found = losses(folder)
    assert sorted(found) == sorted(wanted)
    for iteration, values in found.items():
        assert values == pytest.approx(wanted[iteration] * len(values), abs=1e-5, rel=1e-5)
    faults = lines_of(folder / 'faults.jsonl')
    hangs = [fault for fault in faults if fault['kind'] == 'hang']
    ends = lines_of(folder / 'hangs.jsonl') if hangs else []
    for end, hang in zip(ends, hangs, strict=True):
        assert f'process {hang["process"]} hangs in iteration' in end['reason']
        hang['noticed'] = end['time'] - hang['time']
    assert not list(folder.glob('.*.tmp'))
    return faults


@pytest.mark.skipif(LONG, reason='the long form does this and more')
def test_a_kill_and_a_hang_do_not_end_a_run(tmp_path):
    """And the hang is told with the stack of the process that hangs."""
    train(tmp_path / 'one', 1, iterations=14)
    said = train(
        tmp_path / 'two',
        2,
        timeout=8,
        restarts=2,
        iterations=14,
        kinds=('kill', 'hang'),
        every=6,
        seed=347,
    )
    faults = check(tmp_path / 'two', losses(tmp_path / 'one'))
    assert [fault['kind'] for fault in faults] == ['kill', 'hang']
    assert said.count('hangs in iteration') >= 2  # each process says it
    assert 'in _do' in said and 'time.sleep(1)' in said  # where it hangs


@pytest.mark.skipif(not LONG, reason='BIMM_LONG_TESTS=1 runs it')
@pytest.mark.parametrize(('kind', 'count', 'every'), [('kill', 20, 5), ('hang', 10, 8)])
def test_many_faults_do_not_end_a_run(tmp_path, capsys, kind, count, every):
    iterations = int(1.7 * count * every)
    train(tmp_path / 'one', 1, iterations=iterations)
    settings = dict(kinds=(kind,), every=every, seed=1, max_faults=count)
    # with the limits that a run has by default, but for the first iterations
    train(tmp_path / 'three', 3, 45, restarts=count, iterations=iterations, **settings)
    faults = check(tmp_path / 'three', losses(tmp_path / 'one'))
    assert len(faults) == count
    noticed = [fault['noticed'] for fault in faults if 'noticed' in fault]
    assert all(seconds <= 60 for seconds in noticed)
    again = sum(map(len, losses(tmp_path / 'three').values())) - iterations
    with capsys.disabled():
        print(f'\n{count} times {kind}: recovered, {iterations} iterations, {again} run again')
        if noticed:
            print(f'noticed after {min(noticed):.0f} to {max(noticed):.0f} s')


def family(process: int) -> list[int]:
    """A process and all that it has started."""
    found = [process]
    for path in Path(f'/proc/{process}/task').glob('*/children'):
        for child in path.read_text().split():
            found += family(int(child))
    return found


def kill(process: subprocess.Popen) -> None:
    """As a machine that is switched off."""
    if process.poll() is None:
        for one in family(process.pid):
            os.kill(one, signal.SIGKILL)
        process.communicate()


@pytest.mark.skipif(not LONG, reason='BIMM_LONG_TESTS=1 runs it')
def test_a_node_that_does_not_come_back_leaves_a_run_on_the_other(tmp_path, capsys):
    """Two agents on this machine, of which the one that is not the meeting point is killed."""
    train(tmp_path / 'one', 1, iterations=150)
    folder = tmp_path / 'two'
    prepare(folder, 150)
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    shared = dict(NNODES='2', MIN_NODES='1', PORT=str(port), RUN_ID='two', MASTER_ADDR='127.0.0.1')
    first = start(folder, 1, restarts=3, **shared)
    while not answers(port):  # it is to be the meeting point
        time.sleep(0.1)
    second = start(folder, 1, restarts=3, **shared)
    noted = folder / 'losses.txt'
    try:
        while not noted.is_file() or noted.read_text().count('\n') < 20:
            assert first.poll() is None and second.poll() is None
            time.sleep(0.01)
        kill(second)
        began = time.time()
        said = first.communicate(timeout=900)[1]
    finally:
        kill(first)
        kill(second)
    assert first.returncode == 0, said[-4000:]
    lines = [line.split() for line in noted.read_text().splitlines()]
    alone = [int(iteration) for iteration, _, processes in lines if processes == '1']
    wanted, found = losses(tmp_path / 'one'), losses(folder)
    assert 20 <= len(lines) - len(alone) < 150 and sorted(found) == sorted(wanted)
    for iteration, values in found.items():
        assert values == pytest.approx(wanted[iteration] * len(values), abs=1e-5, rel=1e-5)
    with capsys.disabled():
        print(f'\na node is lost after {len(lines) - len(alone)} iterations; the other one goes on')
        print(f'from {alone[0]}, and is done {time.time() - began:.0f} s after the loss')


def answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(('127.0.0.1', port)) == 0


# the parts ----------------------------------------------------------------------------------------


def test_faults_are_seeded_and_of_the_kinds_asked_for():
    hook = FaultInjectorHook(kinds=['slow', 'disk_full'], every=5, seed=1)
    plan = [hook.fault_at(i, 4) for i in range(2000)]
    assert plan == [hook.fault_at(i, 4) for i in range(2000)]
    faults = [fault for fault in plan if fault]
    assert 300 < len(faults) < 500
    assert {fault[0] for fault in faults} == {'slow', 'disk_full'}
    assert {rank for kind, rank, _ in faults if kind == 'slow'} == {0, 1, 2, 3}
    assert {rank for kind, rank, _ in faults if kind == 'disk_full'} == {0}
    with pytest.raises(ValueError, match='must be some of exception, kill, hang, slow, disk_full'):
        FaultInjectorHook(kinds=['flood'])


class Clock:
    """In place of the watch's time."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def watches(tmp_path, monkeypatch):
    """Three watches with a store, a clock, and what they ended with; none is started."""
    clock, ended = Clock(), {}
    monkeypatch.setattr(watch.time, 'monotonic', clock)
    monkeypatch.setattr(watch.time, 'sleep', lambda seconds: None)
    store = dist.HashStore()
    made = [
        watch.Watch(store, rank, 3, 45, 2, tmp_path, partial(ended.setdefault, rank))
        for rank in range(3)
    ]
    return made, clock, ended


def beat(watches, clock, seconds, silent=()):
    for _ in range(int(seconds / 2)):
        clock.now += 2
        for one in watches:
            if one.rank not in silent:
                one._tell()
        for one in reversed(watches):
            if one.rank not in silent:
                one._look()


def test_the_process_that_is_behind_is_the_one_that_hangs(watches):
    watches, clock, ended = watches
    for one in watches:
        one.mark(7, 1, 'in its step', 45)
    watches[1].mark(7, 0, 'waiting for data', 180)
    beat(watches, clock, 100)  # it may wait longer than the others may stay in a step
    assert not ended
    beat(watches, clock, 90)
    assert set(ended) == {0, 1, 2}
    assert 'process 1 hangs in iteration 8, waiting for data, for 18' in ended[0]
    assert 'test_peers.py' in ended[2]  # the stack


def test_a_process_without_a_sign_of_life_is_gone(watches):
    watches, clock, ended = watches
    for one in watches:
        one.mark(7, 1, 'in its step', 1000)
    beat(watches, clock, 40)
    beat(watches, clock, 44, silent=(2,))
    assert not ended
    beat(watches, clock, 4, silent=(2,))
    assert set(ended) == {0, 1} and 'process 2 has not given a sign of life for 45 s' in ended[1]


def test_a_run_that_goes_on_is_left_alone(watches):
    watches, clock, ended = watches
    for iteration in range(20):
        for one in watches:
            one.mark(iteration, 1, 'in its step', 45)
        beat(watches, clock, 40)
    assert not ended


def test_those_that_wait_for_others_are_not_to_blame():
    stack = (
        '  File "x/torch/distributed/distributed_c10d.py", line 3, in all_reduce\n    work.wait()'
    )
    assert waits(stack) and not waits('  File "a.py", line 1, in forward\n    sleep()')
    assert waits('  File "torch/autograd/graph.py", line 1, in _engine_run_backward\n    return x')
    rebuilding = '  File "x/torch/nn/parallel/distributed.py", line 1, in _pre_forward\n    if self'
    assert waits(rebuilding)
    told = tell_hanging({3: dict(place=[4, 1], doing='in its step', stuck=50, limit=45, stack='S')})
    assert told.splitlines() == [
        'process 3 hangs in iteration 5, in its step, for 50 s (limit 45 s)',
        'Stack of process 3:',
        'S',
    ]
