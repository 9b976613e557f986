import resource
import subprocess
import sys

import pytest
import torch
from mmengine.dataset import pseudo_collate

from bimm_mm.utils.limits import LimitedCollate, LoaderLimitError, raise_open_files

SAMPLES = [dict(inputs=torch.zeros(1000)) for _ in range(4)]


class Status:
    f_frsize, f_blocks = 1000, 64

    def __init__(self, free):
        self.f_bavail = free


@pytest.mark.parametrize('free', [16, 15])
def test_a_batch_needs_room_in_shared_memory(monkeypatch, free):
    monkeypatch.setattr('bimm_mm.utils.limits.os.statvfs', lambda path: Status(free))
    collate = LimitedCollate(pseudo_collate)
    if free == 16:
        assert len(collate(SAMPLES)['inputs']) == 4
        return
    with pytest.raises(LoaderLimitError, match='/dev/shm has 0 of 0 MB left.*--shm-size'):
        collate(SAMPLES)
    for sample in SAMPLES:
        sample['inputs'].share_memory_()  # is there already
    assert len(collate(SAMPLES)['inputs']) == 4


PROGRAM = """
import resource, sys, torch
from torch.utils.data import DataLoader
from bimm_mm.utils.limits import LimitedCollate, raise_open_files

class Clips(torch.utils.data.Dataset):
    def __len__(self):
        return 400

    def __getitem__(self, index):
        return torch.zeros(10)

resource.setrlimit(resource.RLIMIT_NOFILE, (64, 4096))
if sys.argv[1] == 'raised':
    print(raise_open_files(1024))
loader = DataLoader(Clips(), 80, num_workers=1, collate_fn=LimitedCollate(list))
print(sum(map(len, loader)))
"""


@pytest.mark.parametrize('limit', ['raised', 'low'])
def test_a_batch_of_many_tensors_needs_open_files(limit):
    command = [sys.executable, '-c', PROGRAM, limit]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if limit == 'raised':
        assert result.stdout.split('\n')[:2] == ['(64, 1024)', '400'], result.stderr
    else:
        last = result.stderr.strip().rpartition('\n')[2]
        assert 'of 64 files that a process may have open are' in last and 'ulimit -n' in last


def test_a_limit_that_is_high_enough_stays():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert raise_open_files(1) is None
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before
