"""Accuracy with its standard error."""

from dataclasses import dataclass


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
