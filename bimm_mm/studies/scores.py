"""Statistics of the results of runs over seeds."""

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..evaluation.functional.accuracy import Accuracy


class Kind(NamedTuple):
    """Way to evaluate runs: its name, how it is done, its color in charts."""

    name: str
    how: str
    color: str


SCORE_KINDS = dict(
    probe=Kind('linear probe', 'linear probe, mean tokens of blocks {blocks}', '#1f6fb4'),
    probe_few=Kind(
        'linear probe, few labels', 'the same, fitted to {few} labeled clips', '#5aa469'
    ),
    knn=Kind('nearest neighbors', '{knn} nearest neighbors, the same features', '#8c6bb1'),
    attentive=Kind(
        'attentive probe', 'one query that attends to the tokens of the last block', '#c9a227'
    ),
    finetune=Kind('finetuned', 'finetuned on {clips} labeled clips', '#d9622b'),
)
OPTIONAL = ('knn', 'attentive')
SETTLED = ('holds', 'does not hold')
UNDECIDED = 'one seed, undecided'


def kinds_of(evaluation: Mapping) -> dict[str, Kind]:
    """The ways in which the runs of a study are evaluated."""
    return {
        name: kind
        for name, kind in SCORE_KINDS.items()
        if name not in OPTIONAL or evaluation.get(name)
    }


def mean_and_spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and standard deviation over seeds; no deviation where there is one value only."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def score_of(result: Mapping, kind: str, labels: Sequence[str]) -> float | None:
    """Mean accuracy of a result over some labels; None where it was not evaluated so."""
    scores = result['scores'].get(kind)
    return statistics.fmean(scores[label] for label in labels) if scores else None


def scores_of(results: Sequence[Mapping], kind: str, labels: Sequence[str]) -> list[float]:
    """The same for all seeds; empty where they were not evaluated so."""
    scores = [score_of(result, kind, labels) for result in results]
    return [score for score in scores if score is not None]


def difference(first: Sequence[float], second: Sequence[float]) -> tuple[float, float | None]:
    """Difference of the means, and its spread: the root of the sum of both variances over seeds."""
    (a, spread_a), (b, spread_b) = mean_and_spread(first), mean_and_spread(second)
    if spread_a is None or spread_b is None:
        return a - b, None
    return a - b, (spread_a**2 + spread_b**2) ** 0.5


def leaders(scores: Mapping[str, Sequence[float]], tested: int) -> list[str]:
    """The run with the highest mean accuracy and those that are not told from it, highest first.

    Told from it are runs whose mean is further below than the spread over seeds, and below the
    95 % interval of the highest.

    Args:
        scores: Accuracies over seeds by the name of the run.
        tested: Number of samples that each was tested on.
    """
    means = {name: mean_and_spread(values)[0] for name, values in scores.items()}
    order = sorted(means, key=means.get, reverse=True)
    lowest = Accuracy(means[order[0]], tested, 0.0).interval[0] if order else 0.0

    def is_told(name: str) -> bool:
        gap, spread = difference(scores[order[0]], scores[name])
        return gap > (spread or 0.0) and means[name] < lowest

    return [name for name in order if not is_told(name)]


def verdict(gap: float, spread: float | None) -> str:
    """Return whether the first of two is better here, as it was reported to be."""
    if spread is None:
        return UNDECIDED
    if abs(gap) <= spread:
        return 'within the spread'
    return SETTLED[gap < 0]


def summary(verdicts: Sequence[str]) -> str:
    """Say how many orderings hold."""
    hold, fail = (verdicts.count(word) for word in SETTLED)
    open_ = len(verdicts) - hold - fail
    words = [f'{hold} of {len(verdicts)} orderings hold here']
    if fail:
        words.append(f'**{fail} {"do" if fail > 1 else "does"} not**')
    if open_:
        words.append(f'{open_} {"are" if open_ > 1 else "is"} undecided')
    return ', '.join(words) + '.'


def show(values: Sequence[float]) -> str:
    """Format mean ± spread in %."""
    if not values:
        return ''
    mean, spread = mean_and_spread(values)
    return f'{100 * mean:.1f}' + ('' if spread is None else f' ± {100 * spread:.1f}')
