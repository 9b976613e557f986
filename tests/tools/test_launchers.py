"""Command lines of the launchers that lack something."""

import subprocess
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / 'tools'


@pytest.mark.parametrize(
    'line, said',
    [
        ('dist_train.sh', ['CONFIG is missing', 'GPUS is missing']),
        ('dist_train.sh 8', ['CONFIG=8', 'GPUS is missing']),
        ('dist_train.sh a.py eight', ['GPUS=eight must be a number']),
        ('dist_test.sh a.py 8', ['CONFIG=a.py', 'CHECKPOINT=8', 'GPUS is missing']),
        ('dist_test.sh a.py b.pth --amp', ['GPUS=--amp must be a number']),
        ('slurm_train.sh gpu', ['PARTITION=gpu', 'JOB_NAME is missing', 'CONFIG is missing']),
        (
            'slurm_test.sh gpu job a.py',
            ['PARTITION=gpu', 'JOB_NAME=job', 'CONFIG=a.py', 'CHECKPOINT is missing'],
        ),
    ],
)
def test_what_is_missing_is_named_before_the_usage(line, said):
    script, *arguments = line.split()
    result = subprocess.run(
        ['bash', str(TOOLS / script), *arguments], capture_output=True, text=True
    )
    lines = result.stderr.splitlines()
    assert result.returncode == 2 and not result.stdout
    assert lines[: len(said)] == said
    assert lines[len(said)].startswith(f'tools/{script} ')
    assert not any(line.startswith(('set ', 'source ')) for line in lines)
