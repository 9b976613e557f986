"""Say how far a run is."""

import time


class Progress:
    """Print how far a run is, at most every ten seconds, and how long it will take.

    Args:
        total: Number of files that this process writes.
        label: What is printed first.
    """

    def __init__(self, total: int, label: str) -> None:
        self.total, self.label = total, label
        self.done = self.segmented = 0
        self.work = 0.0  # files made in this run, in part or whole
        self.start = self.last = time.monotonic()

    def step(self, share: float) -> None:
        """Count a frame or image that was segmented, which is this share of a file."""
        self.segmented += 1
        self.work += share
        if time.monotonic() - self.last > 10:
            self.report()

    def report(self) -> None:
        """Print a line."""
        self.last = time.monotonic()
        seconds = self.last - self.start
        text = f'{self.label}{self.done} of {self.total} files, {self.segmented} contours made'
        if self.segmented:
            left = seconds / self.work * max(self.total - self.done - self.work % 1, 0)
            text += f', {seconds / self.segmented:.2f} s each, {duration(left)} left'
        print(text, flush=True)


def duration(seconds: float) -> str:
    """Format a time as '2 d 03:04:05'."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return (f'{days} d ' if days else '') + f'{hours:02d}:{minutes:02d}:{seconds:02d}'
