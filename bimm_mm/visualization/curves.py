"""Read the scalars that mmengine logged, and draw curves of one or several runs."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

SCALARS = 'vis_data/scalars.json'
# panels in this order: title, what the names start with, unit, whether the axis is logarithmic
PANELS = (
    ('losses of the ventral branch', 'loss_ventral_', 'loss', True),
    ('losses of the dorsal branch', 'loss_dorsal_', 'loss', True),
    ('explained variance, ventral', 'explained_ventral_', '%', False),
    ('explained variance, dorsal', 'explained_dorsal_', '%', False),
    ('losses', 'loss_', 'loss', True),
    ('explained variance', 'explained_', '%', False),
    ('accuracy', 'accuracy_', '%', False),
    ('learning rate', 'lr', 'lr', False),
    ('gradient norm', 'grad_norm', 'norm', True),
    ('time per step', 'time', 'seconds', True),
)
WAYS = ('-', '--', ':', '-.')  # of the runs; colors are those of the scalars
Run = dict[str, tuple[np.ndarray, np.ndarray]]


def read_run(path: str | Path) -> Run:
    """Read the scalars of a run: steps and values by name.

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
    """Draw a panel for each kind of scalar, a line style for each run.

    Args:
        runs: Of :func:`read_run`, by the name that the legend shows.
    """
    panels, drawn = [], set()
    for title, prefix, unit, logarithmic in PANELS:
        names = {
            name
            for run in runs.values()
            for name in run
            if name.startswith(prefix) and (prefix.endswith('_') or prefix == 'grad_norm')
        } or {name for run in runs.values() for name in run if name == prefix}
        names -= drawn  # a name is in the first panel that it fits
        drawn |= names
        if names:
            panels.append((title, prefix, unit, logarithmic, sorted(names)))
    columns = 2
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(11, 2.7 * rows + 0.5), dpi=100, layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, (title, prefix, unit, logarithmic, names) in zip(axes, panels, strict=False):
        for color, name in enumerate(names):
            for way, (label, run) in enumerate(runs.items()):
                if name not in run:
                    continue
                steps, values = run[name]
                short = name.removeprefix(prefix).strip('_') or ('all' if len(names) > 1 else name)
                words = [short] if len(runs) == 1 else [short, label]
                panel.plot(
                    steps,
                    values * (100 if unit == '%' else 1),
                    color=f'C{color}',
                    linestyle=WAYS[way % len(WAYS)],
                    linewidth=1.4,
                    marker='.' if len(steps) < 3 else None,
                    label=', '.join(words),
                )
        if logarithmic:
            panel.set_yscale('log')
        if unit == '%':  # a prediction worse than the mean, early on, would flatten all the rest
            panel.set_ylim(bottom=max(panel.get_ylim()[0], -20))
            panel.axhline(0, color='0.6', linewidth=0.8)
        panel.set(title=title, ylabel=unit)
        panel.grid(alpha=0.3)
        panel.legend(fontsize=7, frameon=False)
    for panel in axes[len(panels) :]:
        panel.set_axis_off()
    for panel in axes[max(len(panels) - columns, 0) : len(panels)]:
        panel.set_xlabel('iteration or epoch, as logged')
    return figure
