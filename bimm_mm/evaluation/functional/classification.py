"""What a test of a classifier comes to: accuracy with its interval, classes, confusions, files."""

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .accuracy import Accuracy

SHOWN = 20  # classes that a table on the screen has


@dataclass(frozen=True)
class ClassificationReport:
    """Predictions of a test set.

    Attributes:
        labels: (N,) integers.
        scores: (N, classes).
        names: Of the classes.
        files: Of the samples.
    """

    labels: np.ndarray
    scores: np.ndarray
    names: Sequence[str]
    files: Sequence[str]

    def __post_init__(self) -> None:
        samples, classes = self.scores.shape
        if not len(self.labels) == len(self.files) == samples or len(self.names) != classes:
            raise ValueError(
                f'{len(self.labels)} labels, {len(self.files)} files and {len(self.names)} names '
                f'do not fit scores of shape {self.scores.shape}'
            )

    @property
    def predictions(self) -> np.ndarray:
        """(N,) the class with the highest score."""
        return self.scores.argmax(1)

    @property
    def confusion(self) -> np.ndarray:
        """(classes, classes) numbers of samples: row label, column prediction."""
        matrix = np.zeros((len(self.names), len(self.names)), dtype=int)
        np.add.at(matrix, (self.labels, self.predictions), 1)
        return matrix

    def text(self) -> str:
        """The accuracy, and a table with a line per class; the worst ones where there are many."""
        matrix = self.confusion
        counts, right = matrix.sum(1), np.diag(matrix)
        share, low, high = share_of(right.sum(), counts.sum())
        there = counts > 0
        balanced = (right[there] / counts[there]).mean()
        lines = [
            f'Accuracy {share:.1%} of {counts.sum()} (95 % interval {low:.1%} to {high:.1%}); '
            f'mean of the classes {balanced:.1%}; the largest class alone would give '
            f'{counts.max() / counts.sum():.1%}'
        ]
        order = np.flatnonzero(there)
        if len(order) > SHOWN:
            order = order[np.argsort(right[order] / counts[order], kind='stable')][:SHOWN]
            lines.append(f'The {SHOWN} classes with the lowest accuracy:')
        width = max([5, *(len(self.names[k]) for k in order)])
        lines.append(f'  {"class":{width}}  samples  right  95 % interval  most often taken for')
        for k in order:
            share, low, high = share_of(right[k], counts[k])
            others = np.where(np.arange(len(counts)) == k, 0, matrix[k])
            taken = f'{self.names[others.argmax()]} ({others.max()})' if others.any() else ''
            interval = f'{low:.0%} to {high:.0%}'
            lines.append(
                f'  {self.names[k]:{width}}  {counts[k]:7d}  {share:5.0%}  {interval:>13}  {taken}'
            )
        return '\n'.join(line.rstrip() for line in lines)

    def csv(self) -> str:
        """A line per sample: file, label, prediction, its score, and the scores of all classes."""
        rows = zip(self.files, self.labels, self.predictions, self.scores, strict=True)
        return csv_text(
            ['file', 'label', 'prediction', 'score', *(f'score {name}' for name in self.names)],
            (
                [file, self.names[label], self.names[found], f'{scores[found]:.6f}']
                + [f'{score:.6f}' for score in scores]
                for file, label, found, scores in rows
            ),
        )


def share_of(right: int, count: int) -> tuple[float, float, float]:
    """A share, and the ends of its 95 % interval (Wilson's, which holds for few samples, too)."""
    accuracy = Accuracy(right / count, count, chance=0.0)
    return accuracy.value, *accuracy.interval


def csv_text(head: Sequence[str], rows) -> str:
    """Rows of cells as comma-separated values, with quotes where a cell needs them."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=os.linesep)
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue()
