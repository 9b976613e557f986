"""The script for a GPU machine: limits, order, and what it leaves behind."""

import json
from pathlib import Path

import pytest


@pytest.fixture
def script(load_script):
    return load_script('benchmarks/gpu.py')


def fake_parts(script, *names_and_code):
    return [
        script.Part(name, minutes, lambda code=code: ['-c', code], lambda folder: 'figures')
        for name, minutes, code in names_and_code
    ]


def test_a_part_that_fails_or_takes_too_long_does_not_keep_the_others_from_running(
    script, tmp_path, monkeypatch, capsys
):
    parts = fake_parts(
        script,
        ('fails', 1, 'import sys; print("why"); sys.exit(3)'),
        ('hangs', 6 / 60, 'import time; time.sleep(600)'),
        ('works', 1, 'print("fine")'),
    )
    monkeypatch.setattr(script, 'parts_of', lambda args: parts)
    assert script.main([str(tmp_path / 'out'), '--minutes', '9']) == 1
    rows = json.loads((tmp_path / 'out/parts.json').read_text())
    assert [row['result'] for row in rows] == ['exit code 3', 'ended after 6 s', 'ok']
    assert 'why' in (tmp_path / 'out/fails.log').read_text()
    assert 'fine' in (tmp_path / 'out/works.log').read_text()
    assert (tmp_path / 'out/table.md').read_text().strip() in capsys.readouterr().out


def test_parts_that_time_nothing_run_beside_each_other_and_the_others_alone(
    script, tmp_path, monkeypatch
):
    # each of the two waits for what the other writes
    code = (
        'import sys, time, pathlib\n'
        'mine, other = (pathlib.Path({folder!r}) / name for name in {names!r})\n'
        'mine.touch()\n'
        'end = time.monotonic() + 30\n'
        'while not other.exists():\n'
        '    sys.exit("alone") if time.monotonic() > end else time.sleep(0.05)\n'
    )
    first, second = (
        script.Part(
            names[0],
            1,
            lambda names=names: ['-c', code.format(folder=str(tmp_path), names=names)],
            beside=True,
        )
        for names in (('a', 'b'), ('b', 'a'))
    )
    (last,) = fake_parts(script, ('timed', 1, 'print("fine")'))
    monkeypatch.setattr(script, 'parts_of', lambda args: [first, second, last])
    assert script.main([str(tmp_path / 'out'), '--minutes', '9']) == 0
    rows = json.loads((tmp_path / 'out/parts.json').read_text())
    assert [(row['part'], row['result']) for row in rows] == [
        ('a', 'ok'),
        ('b', 'ok'),
        ('timed', 'ok'),
    ]


def test_what_would_begin_after_the_time_is_up_is_left_out(script, tmp_path, monkeypatch):
    parts = fake_parts(script, ('late', 1, 'raise SystemExit(1)'))
    monkeypatch.setattr(script, 'parts_of', lambda args: parts)
    script.main([str(tmp_path), '--minutes', '0.05'])
    (row,) = json.loads((tmp_path / 'parts.json').read_text())
    assert row['result'] == 'left out: the time is up'


def test_all_parts_together_take_their_minutes_and_the_most_valuable_come_first(script, tmp_path):
    for device in ('cuda', 'cpu'):
        parts = script.parts_of(script.parse_args([str(tmp_path), '--device', device]))
        names = [part.name for part in parts]
        assert names[:5] == ['environment', 'tests', 'video', 'profile', 'preflight']
        assert len(set(names)) == len(names)
        assert sum(part.minutes for part in parts) < 20  # limits; --minutes ends it before
        for part in parts:
            assert all(isinstance(word, str) for word in part.command())


def test_a_part_that_does_not_exist_is_told(script, tmp_path):
    with pytest.raises(SystemExit, match='no part prefligt: they are environment, tests'):
        script.main([str(tmp_path), '--only', 'prefligt'])


def test_summaries_are_of_what_the_parts_left(script, tmp_path):
    lines = (
        '/usr/bin/python -m pytest',
        '[gw0] [ 25%] PASSED tests/gpu/test_x.py::test_a',
        'tests/gpu/test_x.py::test_b PASSED [ 50%]',
        '[gw1] [ 75%] FAILED tests/gpu/test_x.py::test_y',
        '[gw0] [100%] PASSED tests/gpu/test_x.py::test_c',
        'FAILED tests/gpu/test_x.py::test_y',
    )
    (tmp_path / 'tests.log').write_text(''.join(f'  12.3 {line}\n' for line in lines))
    assert script.tests_summary('tests')(tmp_path).startswith('3 passed, 1 failed; FAILED')
    values = dict(samples_per_second=99.96, mfu=0.31, peak_memory=2e9)
    (tmp_path / 'x.json').write_text(json.dumps(dict(batch_size=16, models=dict(joint=values))))
    told = 'batch 16; joint 100.0/s, MFU 31%, 2.0 GB'
    assert script.step_summary('x', ('16',))(tmp_path) == told
    (tmp_path / 'x_16.json').write_text((tmp_path / 'x.json').read_text())
    # of a part that was ended before the second
    assert script.step_summary('x', ('16', 'largest'))(tmp_path) == told


def test_the_clips_are_repeated_for_an_epoch(script, tmp_path):
    clips = tmp_path / 'videos'
    clips.mkdir()
    (clips / 'a.mp4').write_bytes(b'a')
    args = script.parse_args([str(tmp_path), '--clips', str(clips), '--device', 'cpu'])
    config = script.write_config(args)
    assert len(list((tmp_path / 'clips').iterdir())) == 16
    assert script.write_config(args) == config  # a second time, too
    assert 'embed_dims=48' in Path(config).read_text()
