"""How far a long job is, in a terminal and in a log."""

import io

from rich.console import Console

from bimm_mm.utils.progress import Progress


def test_a_log_gets_lines_with_the_time_left_and_the_last_state():
    file = io.StringIO()
    with Progress('resizing', 3, every=0, console=Console(file=file)) as bar:
        for name in 'abc':
            bar.advance(note=name)
    first, *_, last = file.getvalue().splitlines()
    assert first.startswith('resizing  1/3') and first.endswith('  a')
    assert last == 'resizing  3/3  c'
    assert ' left  b' in file.getvalue()


def test_lines_are_rare():
    file = io.StringIO()
    with Progress('resizing', 100, every=60, console=Console(file=file)) as bar:
        for _ in range(100):
            bar.advance()
    assert file.getvalue() == 'resizing  100/100\n'


def test_a_terminal_gets_a_bar():
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=100)
    with Progress('resizing', 3, console=console) as bar:
        bar.advance(note='a.mp4')
    assert '\x1b[' in file.getvalue() and 'a.mp4' in file.getvalue()
