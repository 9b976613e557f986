"""Progress of an extraction."""

from ..utils.progress import Progress


class ExtractionProgress(Progress):
    """Progress in files, with the number of contours that were made.

    Args:
        label: What is printed first.
        total: Number of files that this process writes.
    """

    def __init__(self, label: str, total: int) -> None:
        super().__init__(f'{label}files', total, every=10)
        self.segmented = 0

    def step(self, share: float) -> None:
        """Count a frame or image that was segmented, which is this share of a file."""
        self.segmented += 1
        self.advance(share, f'{self.segmented} contours made')


def duration(seconds: float) -> str:
    """Format a time as '2 d 03:04:05'."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return (f'{days} d ' if days else '') + f'{hours:02d}:{minutes:02d}:{seconds:02d}'
