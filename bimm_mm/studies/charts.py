"""Charts of a study's report."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..evaluation.functional.accuracy import label_name
from ..visualization.curves import SCALARS, WAYS, Run, read_run, scale_percent
from .plan import Study
from .scores import kinds_of, scores_of

COLORS = ('C0', 'C1', 'C2', 'C3', 'C4', 'C6', 'C7', 'C8')  # of the runs; then another line


def draw_accuracy(
    study: Study, results: Mapping[str, list[dict]], chance: Mapping[str, float]
) -> Figure:
    """Draw accuracies: a panel per label, a line per run, a point per seed, the mean as a bar.

    Args:
        study: Of the runs.
        results: By the name of the run, one for each seed.
        chance: What guessing reaches, by label; a dashed line.
    """
    labels = study.evaluation['labels']
    names = list(results)
    kinds = kinds_of(study.evaluation)
    height = 1.3 + 0.18 * len(kinds) * len(names)
    offsets = [0.78 * ((i + 0.5) / len(kinds) - 0.5) for i in range(len(kinds))]
    figure = Figure(figsize=(3.0 * len(labels) + 1.8, height), dpi=110, layout='constrained')
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(labels), sharey=True, squeeze=False)[0]
    for panel, label in zip(panels, labels, strict=True):
        for row, name in enumerate(names):
            for offset, (key, kind) in zip(offsets, kinds.items(), strict=True):
                values = 100 * np.array(scores_of(results[name], key, [label]))
                if not len(values):
                    continue
                first = row == 0 and label == labels[0]
                text = kind.name if first else None
                panel.barh(
                    row + offset, values.mean(), 0.72 / len(kinds), color=kind.color, alpha=0.35
                )
                place = np.full(len(values), row + offset)
                style = dict(color=kind.color, markersize=3.5, label=text, clip_on=False)
                panel.plot(values, place, 'o', **style)
        panel.set(title=label_name(label), xlabel='accuracy in %', xlim=(0, 100))
        text = 'chance' if label == labels[0] else None
        panel.axvline(100 * chance[label], color='0.4', linewidth=0.8, linestyle='--', label=text)
        panel.grid(axis='x', alpha=0.3)
        panel.spines[['top', 'right']].set_visible(False)
    panels[0].set_yticks(range(len(names)), [study.runs[name].label for name in names], fontsize=8)
    panels[0].invert_yaxis()
    columns = min(len(kinds) + 1, 2 * len(labels))  # what is as wide as the panels
    figure.legend(loc='outside lower center', ncols=columns, fontsize=8, frameon=False)
    return figure


def draw_explained(study: Study, results: Mapping[str, list[dict]]) -> Figure | None:
    """Draw explained variances: a panel per target, a color per run; None without logs."""
    logs: dict[str, list[Run]] = {name: [] for name in results}
    for name, found in results.items():
        for result in found:
            if result['log'] and any(Path(result['log']).glob(f'*/{SCALARS}')):
                logs[name].append(read_run(result['log']))
    prefix = 'explained_'
    targets = sorted({k for runs in logs.values() for run in runs for k in run if prefix in k})
    if not targets:
        return None
    columns = min(len(targets), 3)
    rows = -(-len(targets) // columns)
    figure = Figure(figsize=(4.0 * columns, 2.6 * rows + 0.6), dpi=90, layout='constrained')
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    labels = {}
    for panel, target in zip(panels, targets, strict=False):
        for number, (name, runs) in enumerate(logs.items()):
            way, color = divmod(number, len(COLORS))
            style = dict(color=COLORS[color], linestyle=WAYS[way % len(WAYS)], linewidth=1)
            for run in runs:
                if target in run:
                    steps, values = run[target]
                    marker = '.' if len(steps) < 20 else None
                    (line,) = panel.plot(steps, 100 * values, marker=marker, **style)
                    labels.setdefault(study.runs[name].label, line)
        panel.set(title=target.removeprefix(prefix), xlabel='step of the last stage', ylabel='%')
        scale_percent(panel)
        panel.grid(alpha=0.3)
    for panel in panels[len(targets) :]:
        panel.set_axis_off()
    figure.legend(
        labels.values(), labels, loc='outside lower center', ncols=3, fontsize=7, frameon=False
    )
    return figure
