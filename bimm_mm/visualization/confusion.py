"""Draw a confusion matrix."""

from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

NAMED = 60  # classes up to which names and numbers can be read


def draw_confusion(matrix: np.ndarray, names: Sequence[str], title: str = '') -> Figure:
    """Draw how often each class was taken for each.

    Args:
        matrix: (classes, classes) numbers of samples: row label, column prediction.
        names: Of the classes; left out where there are more than can be read.
        title: Above the picture.
    """
    count = len(names)
    size = min(max(4.0, 0.42 * count + 2.0), 16.0)
    figure = Figure(figsize=(size + 1.0, size), dpi=110, layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    totals = matrix.sum(1, keepdims=True)
    share = np.divide(matrix, totals, out=np.zeros(matrix.shape), where=totals > 0)
    image = axes.imshow(100 * share, cmap='Blues', vmin=0, vmax=100)
    figure.colorbar(image, ax=axes, label='% of the videos of the class', shrink=0.8)
    if count <= NAMED:
        axes.set_xticks(range(count), names, rotation=90 if count > 6 else 30, ha='right')
        axes.set_yticks(range(count), names)
        axes.tick_params(labelsize=8)
        for row, column in np.argwhere(matrix > 0):
            dark = share[row, column] > 0.5
            axes.text(
                column,
                row,
                matrix[row, column],
                ha='center',
                va='center',
                fontsize=7,
                color='white' if dark else 'black',
            )
    axes.set(xlabel='prediction', ylabel='label', title=title)
    return figure
