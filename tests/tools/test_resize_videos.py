import os
import subprocess
import sys
import time
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import cv2
import numpy as np
import pytest

av = pytest.importorskip('av', reason='encodes by PyAV')

REPO = Path(__file__).parents[2]
TOOL = REPO / 'tools/dataset_converters/resize_videos.py'


@pytest.fixture(scope='module')
def tool():
    spec = spec_from_file_location('resize_videos', TOOL)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_video(path: Path, size=(180, 120), frames=50) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 10, size)
    for number in range(frames):
        writer.write(np.full((size[1], size[0], 3), 4 * number % 256, np.uint8))
    writer.release()


def read_video(path: Path) -> tuple[list[np.ndarray], list[int]]:
    """Frames, and the numbers of those that are key frames."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    keys = [i for i, frame in enumerate(frames) if frame.key_frame]
    return [frame.to_ndarray(format='rgb24') for frame in frames], keys


def test_small_videos_with_close_key_frames_under_the_same_names(tool, tmp_path, capsys):
    write_video(tmp_path / 'in' / 'a' / 'wide.avi')
    write_video(tmp_path / 'in' / 'b.avi', size=(48, 97), frames=7)
    (tmp_path / 'in' / 'list.txt').write_text('a/wide.avi 0')
    folders = [str(tmp_path / 'in'), str(tmp_path / 'out')]
    options = ['--short-side', '64', '--gop', '16', '--workers', '2']
    assert tool.main([*folders, *options]) == 0
    made = {str(p.relative_to(tmp_path / 'out')) for p in (tmp_path / 'out').rglob('*')}
    assert made == {'a', 'a/wide.avi', 'b.avi', 'resize_videos.json'}

    frames, keys = read_video(tmp_path / 'out' / 'a' / 'wide.avi')
    assert len(frames) == 50 and keys == [0, 16, 32, 48]
    assert frames[0].shape == (64, 96, 3)
    assert [round(frame.mean() / 4) for frame in frames] == list(range(50))
    frames, _ = read_video(tmp_path / 'out' / 'b.avi')
    assert len(frames) == 7 and frames[0].shape == (96, 48, 3)  # not enlarged, but even

    # again: nothing is done twice, and other settings do not mix
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / 'out').rglob('*.avi')}
    capsys.readouterr()
    assert tool.main([*folders, *options]) == 0
    assert '2 videos, 2 of them done before' in capsys.readouterr().out
    assert before == {p: p.stat().st_mtime_ns for p in before}
    with pytest.raises(SystemExit, match='made with other settings: .*"gop": 16'):
        tool.main([*folders, '--short-side', '64'])


def test_failures_are_listed_and_tried_again(tool, tmp_path, capsys):
    write_video(tmp_path / 'in' / 'good.avi')
    write_video(tmp_path / 'in' / 'cut.avi')
    whole = (tmp_path / 'in' / 'cut.avi').read_bytes()
    (tmp_path / 'in' / 'cut.avi').write_bytes(whole[: len(whole) // 2])
    (tmp_path / 'in' / 'text.mp4').write_text('no video')
    (tmp_path / 'in' / 'empty.mp4').touch()
    folders = [str(tmp_path / 'in'), str(tmp_path / 'out')]
    assert tool.main([*folders, '--workers', '2']) == 1
    failed = (tmp_path / 'out' / 'failed.txt').read_text()
    reasons = dict(line.split(': ', 1) for line in sorted(failed.splitlines()))
    assert list(reasons) == ['cut.avi', 'empty.mp4', 'text.mp4']
    assert 'truncated' in reasons['cut.avi'] or 'Invalid' in reasons['cut.avi']
    assert [p.name for p in (tmp_path / 'out').glob('*.*') if 'json' not in p.name] in (
        ['good.avi', 'failed.txt'],
        ['failed.txt', 'good.avi'],
    )
    for name in ('cut.avi', 'empty.mp4', 'text.mp4'):
        (tmp_path / 'in' / name).write_bytes(whole)
    assert tool.main(folders) == 0
    assert '4 videos, 1 of them done before' in capsys.readouterr().out
    assert not (tmp_path / 'out' / 'failed.txt').exists()
    assert len(list((tmp_path / 'out').glob('*.*'))) == 5


def test_a_crash_or_a_hang_ends_one_video_only(tool, tmp_path, monkeypatch):
    for name in ('crash.avi', 'good.avi', 'hang.avi'):
        write_video(tmp_path / 'in' / name, frames=3)
    script = tmp_path / 'script.py'
    script.write_text(
        'import os, signal, sys, time\n'
        "if 'crash.avi' in sys.argv[2]: os.kill(os.getpid(), signal.SIGSEGV)\n"
        "if 'hang.avi' in sys.argv[2]: time.sleep(600)\n"
        f'os.execv(sys.executable, [sys.executable, {tool.PROGRAM[0]!r}, *sys.argv[1:]])\n'
    )
    monkeypatch.setattr(tool, 'PROGRAM', (str(script), tool.PROGRAM[1]))
    folders = [str(tmp_path / 'in'), str(tmp_path / 'out')]
    assert tool.main([*folders, '--workers', '1', '--timeout', '5']) == 1
    failed = (tmp_path / 'out' / 'failed.txt').read_text()
    assert failed == ('crash.avi: the process crashed (SIGSEGV)\nhang.avi: took longer than 5 s\n')
    assert (tmp_path / 'out' / 'good.avi').is_file()


def test_killed_and_run_again(tool, tmp_path):
    for number in range(6):
        write_video(tmp_path / 'in' / f'{number}.avi', size=(640, 480), frames=80)
    command = [sys.executable, str(TOOL), str(tmp_path / 'in'), str(tmp_path / 'out')]
    env = os.environ | dict(PYTHONPATH=str(REPO))
    process = subprocess.Popen([*command, '--workers', '1'], env=env, stdout=subprocess.DEVNULL)
    while not (tmp_path / 'out' / '1.avi').exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    done = {path.name for path in (tmp_path / 'out').glob('*.avi')}
    assert {'0.avi', '1.avi'} <= done < {f'{i}.avi' for i in range(6)}
    assert tool.main([*command[2:], '--workers', '2']) == 0
    for number in range(6):
        assert len(read_video(tmp_path / 'out' / f'{number}.avi')[0]) == 80


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['nowhere', 'out'], "folder='nowhere' is no folder"),
        (['empty', 'out'], 'the folder empty holds no file ending in .mp4'),
        (['in', 'in/out'], "output='in/out' must not lie in the folder of the videos"),
        (['in', 'out', '--gop', '0'], '--gop 0 must be at least 1'),
        (['in', 'out', '--crf', '99'], '--crf 99 must be from 0 to 51'),
        (['in', 'out', '--shard', '2/2'], 'I must be from 0 to 1'),
    ],
)
def test_mistakes_are_told(tool, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'empty').mkdir()
    write_video(tmp_path / 'in' / 'a.avi', frames=2)
    with pytest.raises(SystemExit) as stop:
        tool.main(arguments)
    assert message in f'{stop.value}{capsys.readouterr().err}'
    assert not (tmp_path / 'out').exists()
