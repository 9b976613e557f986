"""Run a study: a set of short pretraining runs with one budget, over several seeds, compared.

Example::

    python tools/ablate.py configs/studies/comparison_shapes.py --seeds 3

What was done is kept in the work dir: stopped, the same command goes on where it was. The report,
``NAME/report/report.md`` with its charts, is written again after every run.
"""

import argparse
import sys
import time
from pathlib import Path

import bimm_mm  # noqa: F401
from bimm_mm.cli.arguments import add_config_options, fail
from bimm_mm.engine.hooks.stop_on_signal_hook import EXIT_STOPPED
from bimm_mm.studies import Report, StudyRunner, read_study

STOPPED = 'stopped; the same command goes on from there'


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('study', help='a file of configs/studies, or one like them')
    parser.add_argument('--seeds', type=int, default=3, help='how many; default: %(default)s')
    parser.add_argument(
        '--work-dir', type=Path, default='work_dirs/studies', help='of all studies; %(default)s'
    )
    parser.add_argument('--runs', nargs='+', metavar='RUN', help='only these; default: all')
    parser.add_argument(
        '--report-only',
        action='store_true',
        help='train nothing, only write the report',
    )
    add_config_options(parser, 'data_root=/path/to/videos')
    args = parser.parse_args()
    if args.seeds < 1:
        parser.error(f'--seeds {args.seeds} must be at least 1')
    return args


def main() -> None:
    """Run what is missing, and write the report."""
    args = parse_args()
    start = time.monotonic()

    def say(text: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - start), 60)
        print(f'{minutes:4d}:{seconds:02d}  {text}', flush=True)

    try:
        study = read_study(args.study, args.cfg_options)
        unknown = sorted(set(args.runs or ()) - set(study.runs))
        if unknown:
            raise ValueError(
                f'--runs: no run {", ".join(unknown)}; there are {", ".join(study.runs)}'
            )
        runner = StudyRunner(study, args.work_dir, say, measure=not args.report_only)
        report = Report(runner, args.seeds, runner.folder / 'report')
        names = args.runs or study.runs
        if args.report_only and not any(runner.folder.glob('results/*.json')):
            raise ValueError(f'--report-only: {runner.folder} has no results yet')
        if not args.report_only:
            runner.prepare(names, args.seeds)
            budgets = [
                runner.budget(study.runs[name], unit).seconds
                for name in names
                for unit in study.units
            ]
            minutes = args.seeds * sum(budgets) / 60
            length = 'a minute or two' if minutes < 2 else f'{minutes:.0f} minutes'
            say(
                f'{len(budgets) * args.seeds} runs, {length} of computing if none is there yet; '
                'probes and trials of rates come on top'
            )
        for unit in study.units:
            for seed in range(0 if args.report_only else args.seeds):
                for name in names:
                    run = study.runs[name]
                    if runner.result(run, unit, seed) is None:
                        runner.run(run, unit, seed)
                        report.write()
        print(report.write())
        found = (runner.results(unit, args.seeds).values() for unit in study.units)
        if args.report_only and not any(map(any, found)):
            say('none of the results is of these settings: without --report-only they are made')
    except KeyboardInterrupt:
        say(STOPPED)
        sys.exit(130)
    except SystemExit as stop:
        if stop.code == EXIT_STOPPED:  # a training, which has saved
            say(STOPPED)
        raise
    except (ValueError, OSError) as error:  # ConfigError is a ValueError
        fail(error)


if __name__ == '__main__':
    main()
