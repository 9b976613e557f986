"""Broken files of every kind are found, good ones are kept, in the order of the list."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip('av', reason='decodes the videos')

from bimm_mm.datasets.verify import list_files, problem_of, verify  # noqa: E402

REPO = Path(__file__).parents[2]


def write_video(path: Path, frames: int = 30) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 25, (64, 48))
    assert writer.isOpened()
    generator = np.random.default_rng(0)
    for _ in range(frames):
        writer.write(generator.integers(0, 255, (48, 64, 3), dtype=np.uint8))
    writer.release()


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two good videos and an image, and four bad files."""
    write_video(tmp_path / 'good.avi')
    write_video(tmp_path / 'short.avi', frames=1)
    cv2.imwrite(str(tmp_path / 'good.png'), np.zeros((4, 4, 3), np.uint8))
    whole = (tmp_path / 'good.avi').read_bytes()
    (tmp_path / 'truncated.avi').write_bytes(whole[: len(whole) // 2])
    (tmp_path / 'empty.mp4').touch()
    (tmp_path / 'text.mp4').write_text('<html>video unavailable</html>')
    (tmp_path / 'text.jpg').write_text('no image')
    return tmp_path


WANTED = {
    'good.avi': None,
    'short.avi': None,
    'good.png': None,
    'truncated.avi': 'truncated',
    'empty.mp4': 'empty file',
    'text.mp4': 'cannot be opened',
    'text.jpg': 'cannot be decoded',
    'gone.mp4': 'missing',
}


def test_each_problem_is_named(folder):
    problems = list(verify([folder / name for name in WANTED], workers=3))
    for name, problem in zip(WANTED, problems, strict=True):
        wanted = WANTED[name]
        assert problem == wanted or (wanted and problem and problem.startswith(wanted)), name
    assert problem_of(folder / 'truncated.avi').endswith(' of 30 frames')


@pytest.mark.skipif(os.geteuid() == 0, reason='root may read every file')
def test_no_permission(folder):
    (folder / 'good.avi').chmod(0)
    assert problem_of(folder / 'good.avi') == 'no permission'


def test_quick_looks_at_the_first_frame(folder):
    assert problem_of(folder / 'truncated.avi', quick=True) is None
    assert problem_of(folder / 'text.mp4', quick=True).startswith('cannot be opened')


def test_folders_are_listed(folder):
    assert set(list_files(folder).paths()) == set(WANTED) - {'gone.mp4'}
    (folder / 'none').mkdir()
    with pytest.raises(FileNotFoundError, match='holds no file'):
        list_files(folder / 'none')
    with pytest.raises(ValueError, match='workers=0'):
        list(verify([], workers=0))


def test_the_tool_writes_a_clean_list_and_a_report(folder):
    lines = {name: f'{name} {label}' for label, name in enumerate(WANTED)}
    (folder / 'list.txt').write_text(''.join(f'{line}\n' for line in lines.values()))
    tool = [sys.executable, str(REPO / 'tools/misc/verify_dataset.py')]

    def run(*arguments):
        env = os.environ | dict(PYTHONPATH=str(REPO), OMP_NUM_THREADS='1')
        return subprocess.run(
            [*tool, str(folder), *arguments], cwd=folder, env=env, capture_output=True, text=True
        )

    options = ('--ann-file', 'list.txt', '--out', 'clean.txt', '--report', 'report.json')
    result = run(*options)
    assert result.returncode == 1
    assert 'text.mp4: cannot be opened (' in result.stdout
    assert result.stdout.endswith('3 of 8 files are good\n')
    good = [name for name, problem in WANTED.items() if problem is None]
    assert (folder / 'clean.txt').read_text().splitlines() == [lines[name] for name in good]
    report = json.loads((folder / 'report.json').read_text())
    assert (report['checked'], report['good']) == (8, 3)
    assert report['problems']['gone.mp4'] == 'missing'

    result = run('--ann-file', 'clean.txt')
    assert result.returncode == 0, result.stderr
    assert '8/8' not in result.stderr and '3/3' in result.stderr  # progress


def test_names_of_all_kinds_are_checked_and_listed(folder):
    good = (folder / 'good.avi').read_bytes()
    names = ['drinking (31).avi', 'a,b.avi', 'caf\udce9.avi', '视频.avi', 'bad caf\udce9.avi']
    for name in names[:-1]:
        (folder / name).write_bytes(good)
    (folder / names[-1]).write_bytes(b'no video')
    lines = [f'{name} {label}' for label, name in enumerate(names)]
    text = '\ufeff' + '\n'.join(lines)
    (folder / 'list.txt').write_bytes(text.encode('utf-8', 'surrogateescape'))
    tool = [sys.executable, str(REPO / 'tools/misc/verify_dataset.py'), str(folder)]
    options = ['--ann-file', 'list.txt', '--out', 'clean.txt', '--report', 'report.json']
    env = os.environ | dict(PYTHONPATH=str(REPO), OMP_NUM_THREADS='1')
    result = subprocess.run([*tool, *options], cwd=folder, env=env, capture_output=True)
    assert result.returncode == 1, result.stderr
    clean = (folder / 'clean.txt').read_bytes().decode('utf-8', 'surrogateescape')
    assert clean.splitlines() == lines[:-1]
    report = json.loads((folder / 'report.json').read_text())
    assert list(report['problems']) == [r'bad caf\udce9.avi']
