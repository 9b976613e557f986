"""The page of a preflight: for a terminal, and as Markdown."""

import shlex
import statistics
from dataclasses import dataclass
from datetime import timedelta

from rich.console import Console
from rich.table import Table

from ..utils.tables import markdown_table
from .report import Report

GB = 1e9
HOST_BOUND = 0.6  # of a step, which an eighth of the batch would take an eighth of
Section = tuple[str, list[tuple[str, str, str]]]  # a title, and rows of name, value and note


def sections(report: Report) -> list[Section]:
    """What the page says, from what a user asks first to the details."""
    return [
        ('The whole run', _run(report)),
        ('An iteration', iteration_rows(report)),
        ('Data', _data(report)),
        ('Memory and disk', _memory(report)),
    ]


def _run(report: Report) -> list[tuple[str, str, str]]:
    rows = []
    for advised in (False, True):
        hours = report.hours(advised)
        notes = [f'{hours * report.gpus:,.1f} hours of a device']
        if report.price is not None:
            notes.append(f'cost {hours * report.gpus * report.price:,.2f}')
        name = 'with all advice below' if advised else 'as it is'
        rows.append((name, f'{duration(hours)}', ', '.join(notes)))
        rows.append(
            (
                '',
                f'{report.rate(advised) * report.world:,.1f} samples/s'
                if report.world > 1
                else f'{report.rate(advised):,.1f} samples/s',
                f'{report.rate(advised):,.1f} per device',
            )
        )
    rows.append(('iterations', f'{report.plan.iterations:,}', _scaling(report)))
    return rows


def _scaling(report: Report) -> str:
    told = 'validation is not counted'
    if report.gpus != report.world:
        told += f'; {report.gpus} devices as fast as the {report.world} measured'
    return told


def iteration_rows(report: Report) -> list[tuple[str, str, str]]:
    """Times of an iteration and of its parts: name, value and note."""
    times = report.times
    ordered = sorted(times.iterations)
    late = ordered[int(0.95 * (len(ordered) - 1))]
    rows = [
        (
            'mean',
            ms(times.mean),
            f'median {ms(statistics.median(ordered))}, 95 % below {ms(late)}, '
            f'{times.samples} samples per device',
        )
    ]
    for name, seconds in times.parts.items():
        rows.append((f'  {name}', ms(seconds), f'{seconds / times.mean:.1%}'))
    share = times.parts['hooks and log'] / times.step
    rows.append(('bare step, alone', ms(report.bare), f'hooks and log: {share:.1%} of the step'))
    if report.small is not None:
        rows.append(('  an eighth of the batch', ms(report.small), _small(report)))
    told = f'{times.flops / 1e12:.3g} of {report.peak * times.mean / 1e12:,.3g} TFLOP'
    rows.append(('MFU', f'{report.mfu:.1%}', f'{told} ({report.peak_source})'))
    return rows


def _small(report: Report) -> str:
    """What a step of an eighth of the batch says: on a GPU the rest is launching, by the host."""
    share = report.small / report.bare
    told = f'{share:.0%} of the step'
    if share >= HOST_BOUND and report.machine['type'] != 'cpu':
        told += ': the host launches no faster. Larger batches, or CUDA graphs (docs/speed.md)'
    return told


def _data(report: Report) -> list[tuple[str, str, str]]:
    loader, times = report.loader, report.times
    samples = loader.batches * times.samples
    rows = [
        (
            'loader alone',
            f'{samples:,.1f} samples/s',
            f'{loader.workers} workers, {loader.cores} cores per device',
        )
    ]
    for advised in (False, True):
        work = report.plan.working(report.ratio if advised else 1.0)
        name = 'workers needed' + (', with all advice' if advised else '')
        number = loader.workers_for(1 / work)
        note = '' if number <= loader.cores else f'more than the {loader.cores} cores there are'
        rows.append((name, f'{number}', note or f'for {times.samples / work:,.1f} samples/s'))
    return rows


def _memory(report: Report) -> list[tuple[str, str, str]]:
    memory, rows = report.memory, []
    at_hand = f' of {memory["at_hand"] / GB:,.1f} GB' if memory.get('at_hand') else ''
    if report.times.memory:
        rows.append(('peak', f'{report.times.memory / GB:,.2f} GB', at_hand.strip()))
    if memory.get('largest') is not None:
        told = f'{memory["fixed"] / GB:.2f} GB and {memory["per_sample"] / GB:.3g} per sample, '
        told += memory['how'] + at_hand
        rows.append(('largest batch', f'{memory["largest"]:,}', told))
    checkpoints = report.checkpoints
    if checkpoints:
        size = checkpoints.bytes / GB
        kept = checkpoints.kept or checkpoints.number
        rows.append(
            (
                'checkpoint',
                f'{size:,.3g} GB',
                f'{checkpoints.seconds:.2f} s to write, {checkpoints.number} in the run; '
                f'room for {(kept + 1) * size:,.3g} GB is needed',
            )
        )
    return rows


def advice_rows(report: Report) -> list[tuple[str, str, str]]:
    """What to change, in order of gain: what, gain, how."""
    rows = []
    for change, gain in report.advised.take:
        how = shlex.join([*change.variables, *change.flags, *change.options])
        rows.append((change.what, f'{gain:.0%}', how))
    return rows


def consider_rows(report: Report) -> list[tuple[str, str, str]]:
    """What would be faster, but changes the training."""
    return [
        (
            f'{change.what}: {change.changes}',
            f'{gain:.0%}',
            shlex.join([*change.flags, *change.options]),
        )
        for change, gain in report.advised.consider
    ]


@dataclass(frozen=True)
class Asked:
    """What the user asked for, which the command to paste must keep.

    Attributes:
        config: The config, as it was given.
        options: Of ``--cfg-options``, as they were given.
        amp: Whether ``--amp`` was.
    """

    config: str
    options: tuple[str, ...] = ()
    amp: bool = False


def command(report: Report, asked: Asked) -> str:
    """The command that trains with all advice, to paste."""
    changes = report.advised.changes
    variables = [v for change in changes for v in change.variables]
    flags = ['--amp'] * asked.amp + [flag for change in changes for flag in change.flags]
    advised = [option for change in changes for option in change.options]
    keys = {option.partition('=')[0] for option in advised}
    options = [option for option in asked.options if option.partition('=')[0] not in keys] + advised
    words = [*variables, 'bimm', 'train', asked.config, *flags]
    if report.world > 1:
        words = [*variables, 'bimm', 'dist-train', asked.config, str(report.world), *flags]
    if options:
        words += ['--cfg-options', *options]
    return shlex.join(words)


def titles(report: Report, config: str) -> tuple[str, str]:
    """The page's title, and the machine."""
    machine = report.machine
    told = (
        f'{machine["device"]}, torch {machine["torch"]}, {machine["precision"]}, {machine["date"]}'
    )
    return f'Preflight of {config}', told


def show(report: Report, asked: Asked, console: Console) -> None:
    """Print the page."""
    title, machine = titles(report, asked.config)
    console.print(f'\n[bold]{title}[/bold]\n{machine}', highlight=False)
    for name, rows in sections(report):
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), title=f'\n{name}')
        table.title_justify, table.title_style = 'left', 'bold'
        table.add_column(min_width=24)
        table.add_column(justify='right', no_wrap=True)
        table.add_column(style='dim')
        for row in rows:
            table.add_row(*row)
        console.print(table)
    for name, rows in (
        ('Advice: without it, the advised run would be longer by', advice_rows(report)),
        ('Faster, but another training', consider_rows(report)),
    ):
        if rows:
            console.print(f'\n[bold]{name}[/bold]', highlight=False)
            for what, gain, how in rows:
                console.print(f'  {gain:>5s}  {what}', highlight=False)
                console.print(f'         {how}', style='dim', highlight=False, soft_wrap=True)
    if not report.advised.take:
        console.print('\nNothing was found that would make this run faster.')
    for line in report.advised.tried:
        console.print(f'  tried: {line}', style='dim', highlight=False)
    console.print('\n[bold]To paste[/bold]')
    console.print(command(report, asked), highlight=False, soft_wrap=True, markup=False)


def markdown(report: Report, asked: Asked) -> str:
    """The page as Markdown."""
    title, machine = titles(report, asked.config)
    parts = [f'# {title}', machine]
    for name, rows in sections(report):
        cells = [(a.strip(), b, c) for a, b, c in rows]
        parts += [f'## {name}', markdown_table(['', '', ''], cells, 'lrl')]
    for name, rows in (
        ('Advice', advice_rows(report)),
        ('Faster, but another training', consider_rows(report)),
    ):
        if rows:
            cells = [(what, gain, f'`{how}`') for what, gain, how in rows]
            head = ['change', 'without it longer by', 'how']
            parts += [f'## {name}', markdown_table(head, cells, 'lrl')]
    if report.advised.tried:
        parts += ['## Tried', '\n'.join(f'- {line}' for line in report.advised.tried)]
    parts += ['## To paste', f'```shell\n{command(report, asked)}\n```']
    return '\n\n'.join(parts) + '\n'


def ms(seconds: float) -> str:
    """Milliseconds, or seconds where they are many."""
    return f'{seconds:.2f} s' if seconds >= 10 else f'{1e3 * seconds:,.1f} ms'


def duration(hours: float) -> str:
    """Days and hours, hours and minutes, or minutes and seconds."""
    if hours >= 48:
        return f'{hours / 24:,.1f} days'
    return str(timedelta(seconds=round(hours * 3600)))
