"""Accuracy with its standard error."""

from dataclasses import dataclass

Z = 1.96  # standard deviations of a 95 % interval


@dataclass(frozen=True)
class Accuracy:
    """Share of correct predictions, with its standard error.

    Attributes:
        value: In [0, 1].
        count: Number of test samples.
        chance: What guessing reaches, in [0, 1].
    """

    value: float
    count: int
    chance: float

    @property
    def error(self) -> float:
        """Standard error of the share, from the binomial distribution."""
        return (self.value * (1 - self.value) / self.count) ** 0.5

    @property
    def interval(self) -> tuple[float, float]:
        """Ends of the 95 % interval (Wilson's, which holds for few samples and for 100 %, too)."""
        share, n = self.value, self.count
        middle = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
        half = Z * (share * (1 - share) / n + Z**2 / (4 * n**2)) ** 0.5 / (1 + Z**2 / n)
        return max(middle - half, 0.0), min(middle + half, 1.0)


def interval_at_half(count: int) -> str:
    """Say what a number of test samples allows: the 95 % interval where it is widest."""
    low, high = Accuracy(0.5, count, chance=0.0).interval
    return f'50 % on them has a 95 % interval of {100 * low:.0f} to {100 * high:.0f} %'


def label_name(label: str) -> str:
    """What pictures call a label; that of the four libraries' samples is the class."""
    return 'class' if label == 'gt_label' else label
