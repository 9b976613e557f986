"""Accuracy with its standard error."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Accuracy:
    """Share of correct predictions, with its standard error.

    Attributes:
        value (float): in [0, 1].
        count (int): number of test samples.
        chance (float): what guessing reaches, in [0, 1].
    """

    value: float
    count: int
    chance: float

    @property
    def error(self) -> float:
        """Standard error of the share, from the binomial distribution."""
        return (self.value * (1 - self.value) / self.count) ** 0.5
