"""Progress of a long job with the time left."""

import time
from datetime import timedelta

from rich import progress
from rich.console import Console


class Progress:
    """Progress as a bar in a terminal, as a line every few seconds in a log.

    Example::

        with Progress('resizing', len(files)) as bar:
            for file in files:
                resize(file)
                bar.advance()

    Args:
        title: What is done.
        total: How many units, above 0.
        every: Seconds between two lines where there is no terminal.
        console: Where to write; standard output by default.
    """

    def __init__(
        self, title: str, total: float, every: float = 15.0, console: Console | None = None
    ) -> None:
        console = console or Console()
        self.every = every
        self.in_terminal = console.is_terminal
        self._console = console
        self._bars = progress.Progress(
            progress.TextColumn('{task.description}'),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeRemainingColumn(),
            progress.TextColumn('{task.fields[note]}'),
            console=console,
            disable=not self.in_terminal,
            speed_estimate_period=300,
        )
        self._task = self._bars.add_task(title, total=total, note='')
        self._last = time.monotonic()

    def __enter__(self) -> 'Progress':
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()
        if not self.in_terminal and error[0] is None:
            self._line()

    def advance(self, units: float = 1, note: str | None = None) -> None:
        """Count units that are done, and replace the note behind the bar."""
        self._update(note, advance=units)

    def set(self, done: float, note: str | None = None) -> None:
        """Say how many units are done, and replace the note behind the bar."""
        self._update(note, completed=done)

    def _update(self, note: str | None, **fields: float) -> None:
        fields |= {} if note is None else dict(note=note)
        self._bars.update(self._task, **fields)
        if not self.in_terminal and time.monotonic() - self._last >= self.every:
            self._last = time.monotonic()
            self._line()

    def _line(self) -> None:
        task = self._bars.tasks[0]
        left = '' if task.finished or task.time_remaining is None else self._left(task)
        note = task.fields['note']
        print(
            f'{task.description}  {task.completed:g}/{task.total:g}{left}'
            + (f'  {note}' if note else ''),
            file=self._console.file,
            flush=True,
        )

    @staticmethod
    def _left(task: progress.Task) -> str:
        return f'  {timedelta(seconds=round(task.time_remaining))} left'
