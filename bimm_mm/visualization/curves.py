"""Read the scalars that mmengine logged, and draw curves of one or several runs."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

SCALARS = 'vis_data/scalars.json'
# panels in this order: title, pattern of the names, unit, whether the axis is logarithmic; what a
# pattern has in brackets is the name of a curve
PANELS = (
    ('losses of the ventral branch', 'loss_ventral_(.+)', 'loss', True),
    ('losses of the dorsal branch', 'loss_dorsal_(.+)', 'loss', True),
    ('explained variance, ventral', 'explained_ventral_(.+)', '%', False),
    ('explained variance, dorsal', 'explained_dorsal_(.+)', '%', False),
    ('loss', 'loss|loss_(.+)', 'loss', True),
    ('explained variance', 'explained_(.+)', '%', False),
    ('accuracy in training', '(.+)_acc|accuracy_(.+)', '%', False),
    ('accuracy in validation', 'acc/(.+)|accuracy/(.+)', '%', False),
    ('learning rate', 'base_lr|lr', 'lr', False),
    ('gradient norm', 'grad_norm(.*)', 'norm', True),
    ('time per step', 'time', 'seconds', True),
)
# where curves stand in the file, and what is in one of the panels already
NOT_DRAWN = ('step', 'iter', 'epoch', 'data_time', 'memory', 'eta')
LOWEST = -20  # % explained: what is below flattens all the rest
WAYS = ('-', '--', ':', '-.')  # of the runs; colors are those of the scalars
Run = dict[str, tuple[np.ndarray, np.ndarray]]


def read_run(path: str | Path) -> Run:
    """Read the scalars of a run: steps and values by name.

    What a validation measured is drawn at the step after which it was.

    Args:
        path: A ``scalars.json``, or a work dir. Of a work dir, all starts of the run
            are joined; where a resumed one repeats steps, the later figures count.

    Raises:
        FileNotFoundError: There is none.
        ValueError: A line of it is no JSON, or it has no scalars of training.
    """
    path = Path(path)
    files = [path] if path.is_file() else sorted(path.glob(f'*/{SCALARS}'))
    if not files:
        raise FileNotFoundError(f'{path} is no scalars.json, and no work dir with */{SCALARS}')
    steps: dict[int, dict[str, float]] = {}
    last = 0
    for file in files:
        lines = file.read_text().splitlines()
        for number, line in enumerate(lines, start=1):
            try:
                entry = json.loads(line)
            except json.JSONDecodeError as error:
                if number == len(lines):  # a run that was killed while it wrote
                    break
                raise ValueError(f'line {number} of {file} is no JSON: {error}') from error
            if number == 1 and 'step' in entry:
                steps = {step: old for step, old in steps.items() if step < entry['step']}
            if 'step' in entry and 'loss' in entry:
                steps[entry['step']] = entry
                last = entry['step']
            elif 'step' in entry and steps:  # of a validation, whose step may count epochs
                measured = {
                    k: v for k, v in entry.items() if k not in ('step', 'time', 'data_time')
                }
                steps[last] = measured | steps[last]
    if not steps:
        raise ValueError(f'{path} has no scalars of training')
    names = dict.fromkeys(name for entry in steps.values() for name in entry)
    run = {}
    for name in names:
        points = [
            (step, entry[name])
            for step, entry in sorted(steps.items())
            if isinstance(entry.get(name), int | float)
        ]
        if points:
            run[name] = tuple(np.array(points, dtype=float).T)
    return run


def draw_curves(runs: Mapping[str, Run]) -> Figure:
    """Draw a panel for each kind of scalar that was logged, a line style for each run.

    Args:
        runs: Of :func:`read_run`, by the name that the legend shows.
    """
    panels = list(_panels(runs))
    columns = 2
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(11, 2.7 * rows + 0.5), dpi=100, layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, (title, names, unit, logarithmic) in zip(axes, panels, strict=False):
        _draw(panel, runs, names, unit)
        _scale(panel, unit, logarithmic)
        panel.set(title=title, ylabel=unit)
        panel.grid(alpha=0.3)
        panel.legend(fontsize=7, frameon=False)
    for panel in axes[len(panels) :]:
        panel.set_axis_off()
    for panel in axes[max(len(panels) - columns, 0) : len(panels)]:
        panel.set_xlabel('iteration')
    return figure


def _panels(runs: Mapping[str, Run]) -> Iterator[tuple[str, dict[str, str], str, bool]]:
    """Title, names of the curves by name of the scalar, unit and kind of axis of each panel.

    A scalar that no pattern fits gets a panel of its own.
    """
    left = sorted({name for run in runs.values() for name in run} - set(NOT_DRAWN))
    for title, pattern, unit, logarithmic in PANELS:
        found = {name: match for name in left if (match := re.fullmatch(pattern, name))}
        left = [name for name in left if name not in found]
        names = {
            name: next((group.strip('_') for group in match.groups() if group), name)
            for name, match in found.items()
        }
        if set(names) == {'base_lr', 'lr'}:
            names = _rates(runs)
        parts = [name for name in names if name.startswith('loss_')]
        if 'loss' in names and len(parts) == 1 and _equal(runs, 'loss', parts[0]):
            del names[parts[0]]  # the only one
        elif 'loss' in names and parts:
            names['loss'] = 'all'
        if names:
            yield title, names, unit, logarithmic
    for name in left:
        yield name, {name: name}, '', False


def _rates(runs: Mapping[str, Run]) -> dict[str, str]:
    """The rate of the head and that of the first layer, where layers have rates of their own."""
    if _equal(runs, 'base_lr', 'lr'):
        return dict(lr='lr')
    return dict(base_lr='head', lr='first layer')


def _equal(runs: Mapping[str, Run], first: str, second: str) -> bool:
    """Whether two scalars have the same values wherever both are."""
    return all(
        np.array_equal(run[first][1], run[second][1])
        for run in runs.values()
        if first in run and second in run
    )


def _draw(panel: Axes, runs: Mapping[str, Run], names: Mapping[str, str], unit: str) -> None:
    for color, (name, short) in enumerate(names.items()):
        for way, (label, run) in enumerate(runs.items()):
            if name not in run:
                continue
            steps, values = run[name]
            panel.plot(
                steps,
                values * (100 if unit == '%' else 1),
                color=f'C{color}',
                linestyle=WAYS[way % len(WAYS)],
                linewidth=1.4,
                marker='.' if len(steps) < 20 else None,
                label=short if len(runs) == 1 else f'{short}, {label}',
            )


def scale_percent(panel: Axes) -> None:
    """Set an axis of explained variances or accuracies such that every curve can be seen.

    Early on, a prediction may be much worse than the mean; the best of each curve is shown.
    """
    lines = [line.get_ydata() for line in panel.lines]
    bests = [y[np.isfinite(y)].max() for y in lines if np.isfinite(y).any()]
    bottom = max(panel.get_ylim()[0], min([LOWEST, *(best + LOWEST for best in bests)]))
    top = max([0.0, *bests])  # the axis' own has a margin for all that lies below, too
    panel.set_ylim(bottom, top + 0.05 * (top - bottom))
    panel.axhline(0, color='0.6', linewidth=0.8)


def _scale(panel: Axes, unit: str, logarithmic: bool) -> None:
    """Set the axis such that every curve can be seen, and its numbers be read."""
    if unit == '%':
        scale_percent(panel)
    elif logarithmic and all((line.get_ydata() > 0).all() for line in panel.lines):
        panel.set_yscale('log')
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter('{x:g}')
        panel.yaxis.set_minor_formatter(NullFormatter())
        low, high = panel.get_ylim()
        if high / low < 10:  # hardly a power of ten among the ticks
            panel.set_yscale('linear')
