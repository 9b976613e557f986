"""The report of a study: Markdown and charts."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..evaluation.functional.accuracy import interval_at_half
from ..utils.files import write_text
from ..utils.tables import markdown_table
from .charts import draw_accuracy, draw_explained
from .plan import Question, Study
from .runner import StudyRunner
from .scores import (
    UNDECIDED,
    difference,
    kinds_of,
    leaders,
    scores_of,
    show,
    summary,
    verdict,
)

BESIDE = 12  # columns of scores in one table


class Report:
    """Writes ``report.md`` and its charts from the results that there are.

    Args:
        runner: With the results.
        seeds: How many to look for.
        folder: For the files.
    """

    def __init__(self, runner: StudyRunner, seeds: int, folder: Path) -> None:
        self.runner = runner
        self.study: Study = runner.study
        self.seeds = seeds
        self.folder = folder
        self.kinds = kinds_of(self.study.evaluation)

    @property
    def _chance(self) -> dict[str, float]:
        """What guessing reaches, by label."""
        return {label: 1 / count for label, count in self.runner.evaluation.classes().items()}

    def write(self) -> Path:
        """Write all files; returns the path of the Markdown."""
        self.folder.mkdir(parents=True, exist_ok=True)
        parts = [f'# {self.study.title}', self.study.about.strip(), self._terms()]
        for unit in self.study.units:
            results = self.runner.results(unit, self.seeds)
            if not any(results.values()):
                continue
            parts.append(f'## Equal {unit}')
            results = {name: found for name, found in results.items() if found}
            parts += [self._table(results, unit), self._ahead(results)]
            chart = self.folder / f'accuracy_{unit}.png'
            draw_accuracy(self.study, results, self._chance).savefig(chart)
            parts.append(f'![Accuracy of each run, equal {unit}]({chart.name})')
            if any(any(r['explained'] for r in found) for found in results.values()):
                parts.append(self._explained(results))
                curves = draw_explained(self.study, results)
                if curves is not None:
                    chart = self.folder / f'explained_{unit}.png'
                    curves.savefig(chart)
                    parts.append(f'![Explained variance over time, equal {unit}]({chart.name})')
            parts += [self._answer(question, results) for question in self.study.questions]
        path = self.folder / 'report.md'
        write_text(path, '\n\n'.join(part for part in parts if part) + '\n')
        return path

    def _terms(self) -> str:
        reference = self.study.runs[self.study.reference].label
        chance = ', '.join(f'{label} {100 * part:.1f}' for label, part in self._chance.items())
        kinds = '; '.join(f'*{kind}* is: {self._kind(kind)}' for kind in self.kinds)
        tested = self.runner.evaluation.tested()
        return (
            f'Accuracies in %, mean ± standard deviation over seeds. {kinds}. Chance: {chance}. '
            f'All on the same {tested} test clips, of which each is {100 / tested:.2g} %: '
            f'{interval_at_half(tested)}. '
            f'Every run gets what {reference} gets, all its stages together, in seconds or in '
            f'steps; finetuning comes on top, {self._how_finetuned()}. Seconds are measured '
            'per step, all trainings in turn, without the loading of data: of computing, over all '
            'threads, on a CPU. '
            f'An ordering is judged by the mean accuracy of {" and ".join(self.study.judge)}, and '
            'settled where the difference is larger than its spread, the root of the sum of both '
            'variances over seeds.'
        )

    def _how_finetuned(self) -> str:
        """Which runs are finetuned otherwise than the others, and how."""
        others = [
            f'{run.label} ({", ".join(how)})'
            for run in self.study.runs.values()
            if (
                how := [
                    *(f'{key}={value}' for key, value in run.finetune.items()),
                    *(['with all that the others get'] if run.finetune_all else []),
                ]
            )
        ]
        return 'the same for all' + (f' but {"; ".join(others)}' if others else '')

    def _kind(self, kind: str) -> str:
        settings = self.study.evaluation
        blocks = ', '.join(map(str, settings['probe_blocks']))
        clips = settings['finetune']['dataset'].get('length', 'the')
        words = dict(few=settings['probe_few'], knn=settings.get('knn'), clips=clips)
        return self.kinds[kind].how.format(blocks=blocks, **words)

    def _table(self, results: Mapping[str, list[dict]], unit: str) -> str:
        """What each run got and reached; a table for each way to evaluate where they are many."""
        labels = self.study.evaluation['labels']
        kinds = [k for k in self.kinds if any(scores_of(r, k, labels) for r in results.values())]
        names = [self.study.runs[name].label for name in results]
        head, got = ['steps', 'seconds', 'seeds'], []
        for name, found in results.items():
            budget = self.runner.budget(self.study.runs[name], unit)
            steps = ' + '.join(map(str, (*budget.steps, budget.finetune_steps)))
            got.append([steps, f'{budget.seconds:.0f}', len(found)])
        scores = {
            kind: [
                [show(scores_of(found, kind, [x])) for x in labels] for found in results.values()
            ]
            for kind in kinds
        }
        if len(kinds) * len(labels) <= BESIDE:
            head += [f'{kind}: {label}' for kind in kinds for label in labels]
            rows = [[*a, *sum(b, [])] for a, *b in zip(got, *scores.values(), strict=True)]
            tables = [_with_names(names, head, rows)]
        else:
            tables = [_with_names(names, head, got)]
            for kind, rows in scores.items():
                tables += [f'*{kind}*:', _with_names(names, labels, rows)]
        said = 'Steps and seconds include finetuning, the last figure.'
        return '\n\n'.join([tables[0], said, *tables[1:], *self._costs()])

    def _ahead(self, results: Mapping[str, list[dict]]) -> str:
        """Which runs are ahead at each label: the best one, and who is not told from it."""
        runs = {self.study.runs[name].label: found for name, found in results.items()}
        rows = []
        for label in self.study.evaluation['labels']:
            cells = []
            for kind in self.kinds:
                scores = {name: scores_of(found, kind, [label]) for name, found in runs.items()}
                scores = {name: values for name, values in scores.items() if values}
                first = leaders(scores, self.runner.evaluation.tested())
                alike = len(first) == len(scores) > 1
                cells.append('all alike' if alike else '; '.join(first))
            rows.append([label, *cells])
        about = (
            'Ahead at each label: the run with the highest mean and those that are not told from '
            'it, as they are within the spread over seeds or within the 95 % interval of the '
            'highest on so many test clips:'
        )
        return f'{about}\n\n{markdown_table(["label", *self.kinds], rows)}'

    def _costs(self) -> list[str]:
        """What was made before, and the learning rates that were chosen."""
        lines = []
        made = {
            run.label: sum(need.seconds() or 0 for need in run.needs)
            for run in self.study.runs.values()
            if run.needs
        }
        if made:
            costs = ', '.join(f'{label} {seconds:.0f} s' for label, seconds in made.items())
            lines.append(f'On top comes what was made before, of the same clips: {costs}.')
        if self.study.search and len(self.study.search.rates) > 1:
            names = [run.label for run in self.study.runs.values() if run.stages]
            found = [self.runner.trials(run) for run in self.study.runs.values() if run.stages]
            rates = [
                [name, *(f'{100 * trials[rate]:.1f}' for rate in self.study.search.rates)]
                for name, trials in zip(names, found, strict=True)
                if trials
            ]
            head = ['accuracy at lr', *(f'{rate:g}' for rate in self.study.search.rates)]
            share = self.study.search.share
            part = 'all' if share == 1 else f'{100 * share:.0f} %'
            lines.append(
                f'Learning rates: each run was tried with {part} of its '
                'steps, one seed, at each of the same; the best by the linear probe, mean of '
                f'{", ".join(self.study.judge)} on other clips, was taken.'
            )
            lines.append(markdown_table(head, rates))
        return lines

    def _explained(self, results: Mapping[str, list[dict]]) -> str:
        names = list(dict.fromkeys(n for f in results.values() for r in f for n in r['explained']))
        rows = []
        for name, found in results.items():
            values = {n: [r['explained'][n] for r in found if n in r['explained']] for n in names}
            if any(values.values()):
                rows.append([self.study.runs[name].label, *(show(values[n]) for n in names)])
        about = 'Explained variance of each target at the end of pretraining, in %:'
        return f'{about}\n\n{markdown_table(["run", *names], rows)}'

    def _answer(self, question: Question, results: Mapping[str, list[dict]]) -> str:
        """The rows of a question in pairs, the one that was reported better first."""
        lines = [f'### {question.name[0].upper()}{question.name[1:]}', '']
        if question.source:
            lines += [f'Reported: {question.source}.', '']
        rows = sorted(question.rows.items(), key=lambda row: -(row[1] or 0))
        pairs = [
            (first, second)
            for index, first in enumerate(rows)
            for second in rows[index + 1 :]
            if index == 0 or None not in (first[1], second[1])
        ]
        table, verdicts = [], {kind: [] for kind in self.kinds}
        for (a, high), (b, low) in pairs:
            reported = f'{high - low:+.1f}' if None not in (high, low) else ''
            cells = [self.study.runs[a].label, self.study.runs[b].label, reported]
            for kind in self.kinds:
                values = [
                    scores_of(results.get(name, ()), kind, self.study.judge) for name in (a, b)
                ]
                if not all(values):
                    cells += ['', '']
                    continue
                gap, spread = difference(*values)
                around = '' if spread is None else f' ± {100 * spread:.1f}'
                verdicts[kind].append(verdict(gap, spread))
                cells += [f'{100 * gap:+.1f}{around}', verdicts[kind][-1]]
            table.append(cells)
        head = ['better', 'than', 'reported']
        for kind in self.kinds:
            head += [f'here, {kind}', '']
        one_seed = {what for found in verdicts.values() for what in found} == {UNDECIDED}
        needless = {2} if not any(row[2] for row in table) else set()
        if one_seed:
            needless |= set(range(4, len(head), 2))  # the verdicts
        head, *table = (
            [cell for place, cell in enumerate(row) if place not in needless]
            for row in (head, *table)
        )
        lines.append(markdown_table(head, table))
        if one_seed:
            return '\n'.join([*lines, '', f'All of it is of {UNDECIDED}.'])
        for kind, found in verdicts.items():
            if found:
                lines += ['', f'By *{kind}*, {summary(found)}']
        return '\n'.join(lines)


def _with_names(names: Sequence[str], head: Sequence[str], rows: Sequence[Sequence]) -> str:
    """A table with a run in each row; without the rows that have nothing."""
    rows = [[name, *row] for name, row in zip(names, rows, strict=True) if any(row)]
    return markdown_table(['run', *head], rows)
