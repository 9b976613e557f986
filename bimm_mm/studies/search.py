"""The learning rate of each method, by the same small search."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..config.check import ConfigError


@dataclass(frozen=True)
class Search:
    """How learning rates are searched.

    Attributes:
        rates: Which are tried; a single one is taken without a trial.
        share: Of the steps of each stage of a run, in (0, 1].
        seed: Of the trials; those of the runs count from 0.
        test: Overrides of the data set of ``probe_test``: rates are chosen on other samples.
    """

    rates: tuple[float, ...]
    share: float = 0.3
    seed: int = 1000
    test: Mapping | None = None

    @classmethod
    def read(cls, search: Mapping) -> 'Search':
        """Read ``search`` of a study file.

        Raises:
            ConfigError: A field is unknown, or no learning rate is above 0.
        """
        unknown = set(search) - {'rates', 'share', 'seed', 'test'}
        rates: Sequence = search.get('rates', ())
        if unknown or not rates or min(rates) <= 0:
            raise ConfigError(
                f'search={dict(search)} needs rates, numbers above 0, and may have share, seed and '
                'test'
            )
        if not 0 < search.get('share', cls.share) <= 1:
            raise ConfigError(f'search.share={search["share"]} must be above 0 and at most 1')
        return cls(**{**search, 'rates': tuple(rates)})

    def steps(self, steps: Sequence[int]) -> list[int]:
        """Steps of the stages of a trial."""
        return [max(round(self.share * count), 1) for count in steps]
