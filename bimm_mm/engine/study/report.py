"""The report of a study: Markdown and charts."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .plan import Question, Study
from .runner import StudyRunner

KINDS = dict(
    probe='linear probe, mean tokens of blocks {blocks}',
    probe_last='linear probe, mean token of the last block',
    finetune='finetuned on {clips} labelled clips',
)
COLORS = dict(probe='#1f6fb4', probe_last='#7fb2dc', finetune='#d9622b')
SETTLED = ('holds', 'does not hold')


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


def verdict(gap: float, spread: float | None) -> str:
    """Whether the first of two is better, as somebody else found."""
    if spread is None:
        return 'one seed, undecided'
    if abs(gap) <= spread:
        return 'within the spread'
    return SETTLED[gap < 0]


class Report:
    """Writes ``report.md`` and its charts from the results that there are.

    Args:
        runner (StudyRunner): with the results.
        seeds (int): how many to look for.
        folder (Path): for the files.
    """

    def __init__(self, runner: StudyRunner, seeds: int, folder: Path) -> None:
        self.runner = runner
        self.study: Study = runner.study
        self.seeds = seeds
        self.folder = folder

    def write(self) -> Path:
        """Write all files; returns the path of the Markdown."""
        self.folder.mkdir(parents=True, exist_ok=True)
        parts = [f'# {self.study.title}', self.study.about.strip(), self._terms()]
        for unit in self.study.units:
            results = self.runner.results(unit, self.seeds)
            if not any(results.values()):
                continue
            parts.append(f'## Equal {unit}')
            parts.append(self._table(results, unit))
            chart = self.folder / f'accuracy_{unit}.png'
            draw_accuracy(self.study, results).savefig(chart)
            parts.append(f'![Accuracy of each run, equal {unit}]({chart.name})')
            if any(any(r['explained'] for r in found) for found in results.values()):
                parts.append(self._explained(results))
            parts += [self._answer(question, results) for question in self.study.questions]
        path = self.folder / 'report.md'
        path.write_text('\n\n'.join(part for part in parts if part) + '\n')
        return path

    def _terms(self) -> str:
        reference = self.study.runs[self.study.reference].label
        chance = ', '.join(
            f'{label} {100 / count:.1f}'
            for label, count in self.runner.evaluation.classes().items()
        )
        kinds = '; '.join(f'*{kind}* is: {self._kind(kind)}' for kind in KINDS)
        return (
            f'Accuracies in %, mean ± standard deviation over seeds. {kinds}. Chance: {chance}. '
            f'Every run gets what {reference} gets, all its stages together, in seconds or in '
            'steps; finetuning comes on top, the same steps for all. Seconds are measured per '
            'step, all trainings in turn: of computing, over all threads, on a CPU. '
            f'An ordering is judged by the mean accuracy of {" and ".join(self.study.judge)}, and '
            'settled where the difference is larger than its spread, the root of the sum of both '
            'variances over seeds.'
        )

    def _kind(self, kind: str) -> str:
        settings = self.study.evaluation
        blocks = ', '.join(map(str, settings['probe_blocks']))
        clips = settings['finetune']['dataset'].get('length', 'the')
        return KINDS[kind].format(blocks=blocks, clips=clips)

    def _table(self, results: Mapping[str, list[dict]], unit: str) -> str:
        labels = self.study.evaluation['labels']
        kinds = [k for k in KINDS if any(scores_of(r, k, labels) for r in results.values())]
        head = ['run', 'steps', 'seconds', 'seeds']
        head += [f'{kind}: {label}' for kind in kinds for label in labels]
        lines = ['| ' + ' | '.join(head) + ' |', '|' + '---|' * len(head)]
        for name, found in results.items():
            run = self.study.runs[name]
            budget = self.runner.budget(run, unit)
            steps = ' + '.join(map(str, (*budget.steps, budget.finetune_steps)))
            cells = [run.label, steps, f'{budget.seconds:.0f}', str(len(found))]
            for kind in kinds:
                for label in labels:
                    cells.append(show(scores_of(found, kind, [label])))
            lines.append('| ' + ' | '.join(cells) + ' |')
        return '\n'.join(lines) + '\n\nSteps and seconds include finetuning, the last figure.'

    def _explained(self, results: Mapping[str, list[dict]]) -> str:
        names = list(dict.fromkeys(n for f in results.values() for r in f for n in r['explained']))
        lines = [
            'Explained variance of each target at the end of pretraining, in %:',
            '',
            '| run | ' + ' | '.join(names) + ' |',
            '|' + '---|' * (len(names) + 1),
        ]
        for name, found in results.items():
            values = {n: [r['explained'][n] for r in found if n in r['explained']] for n in names}
            if any(values.values()):
                cells = [show(values[n]) for n in names]
                lines.append(f'| {self.study.runs[name].label} | ' + ' | '.join(cells) + ' |')
        return '\n'.join(lines)

    def _answer(self, question: Question, results: Mapping[str, list[dict]]) -> str:
        """The rows of a question in pairs, the one that was reported better first."""
        lines = [f'### {question.name[0].upper()}{question.name[1:]}', '']
        if question.source:
            lines += [f'Reported: {question.source}.', '']
        lines += [
            '| better | than | reported | here, probe | | here, finetuned | |',
            '|' + '---|' * 7,
        ]
        rows = sorted(question.rows.items(), key=lambda row: -(row[1] or 0))
        pairs = [
            (first, second)
            for index, first in enumerate(rows)
            for second in rows[index + 1 :]
            if index == 0 or None not in (first[1], second[1])
        ]
        settled = []
        for (a, high), (b, low) in pairs:
            cells = [self.study.runs[a].label, self.study.runs[b].label]
            cells.append(f'{high - low:+.1f}' if high is not None and low is not None else '')
            for kind in ('probe', 'finetune'):
                values = [scores_of(results[name], kind, self.study.judge) for name in (a, b)]
                if not all(values):
                    cells += ['', '']
                    continue
                gap, spread = difference(*values)
                around = '' if spread is None else f' ± {100 * spread:.1f}'
                settled.append((kind, verdict(gap, spread)))
                cells += [f'{100 * gap:+.1f}{around}', settled[-1][1]]
            lines.append('| ' + ' | '.join(cells) + ' |')
        for kind, name in (('probe', 'By the probe'), ('finetune', 'After finetuning')):
            verdicts = [what for k, what in settled if k == kind]
            if verdicts:
                lines += ['', f'{name}, {summary(verdicts)}']
        return '\n'.join(lines)


def summary(verdicts: Sequence[str]) -> str:
    """How many orderings hold, in words."""
    hold, fail = (verdicts.count(word) for word in SETTLED)
    open_ = len(verdicts) - hold - fail
    words = [f'{hold} of {len(verdicts)} orderings hold here']
    if fail:
        words.append(f'**{fail} {"do" if fail > 1 else "does"} not**')
    if open_:
        words.append(f'{open_} {"are" if open_ > 1 else "is"} undecided')
    return ', '.join(words) + '.'


def show(values: Sequence[float]) -> str:
    """Mean ± spread in %."""
    if not values:
        return ''
    mean, spread = mean_and_spread(values)
    return f'{100 * mean:.1f}' + ('' if spread is None else f' ± {100 * spread:.1f}')


def draw_accuracy(study: Study, results: Mapping[str, list[dict]]) -> Figure:
    """A panel per label; a line per run with a point per seed, and the mean as a bar."""
    labels = study.evaluation['labels']
    names = [name for name, found in results.items() if found]
    kinds = ('probe', 'finetune')
    height = 1.3 + 0.42 * len(names)
    figure = Figure(figsize=(3.0 * len(labels) + 1.8, height), dpi=110, layout='constrained')
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(labels), sharey=True, squeeze=False)[0]
    for panel, label in zip(panels, labels, strict=True):
        for row, name in enumerate(names):
            for offset, kind in zip((-0.17, 0.17), kinds, strict=True):
                values = 100 * np.array(scores_of(results[name], kind, [label]))
                if not len(values):
                    continue
                first = row == 0 and label == labels[0]
                text = dict(probe='linear probe', finetune='finetuned')[kind] if first else None
                panel.barh(row + offset, values.mean(), 0.3, color=COLORS[kind], alpha=0.35)
                place = np.full(len(values), row + offset)
                panel.plot(values, place, 'o', color=COLORS[kind], markersize=3.5, label=text)
        panel.set(title=label, xlabel='accuracy in %', xlim=(0, 100))
        panel.grid(axis='x', alpha=0.3)
        panel.spines[['top', 'right']].set_visible(False)
    panels[0].set_yticks(range(len(names)), [study.runs[name].label for name in names], fontsize=8)
    panels[0].invert_yaxis()
    figure.legend(loc='outside lower center', ncols=2, fontsize=8, frameon=False)
    return figure
