"""Measure what a run will cost before it begins, on its own data and hardware.

A few iterations of the config as it is, then one page: how long the whole run will take and what it
will cost, where an iteration's time goes, what the data loader can give, which batch fits, and what
to change, as arguments to paste. Nothing is left in the work dir but preflight.md and
preflight.json. Several devices: ``torchrun --nproc-per-node 8 tools/misc/preflight.py CONFIG
--launcher pytorch``.
"""

import argparse
import json
import sys
import warnings
from itertools import takewhile
from pathlib import Path

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import is_main_process
from rich.console import Console

from bimm_mm.cli.arguments import add_config_options, fail
from bimm_mm.config.check import ConfigError, check_config
from bimm_mm.config.loading import read_config
from bimm_mm.engine.optimizers.amp import set_amp
from bimm_mm.engine.runner import (
    LAUNCHERS,
    check_strategy,
    init_cpu_launcher,
    leave,
    without_initialization,
)
from bimm_mm.preflight.page import Asked, markdown, show
from bimm_mm.preflight.report import Report, Settings, measure
from bimm_mm.preflight.trials import KINDS, KINDS_ON_CPU
from bimm_mm.utils.files import WriteError, check_writable, write_text


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file, or the name of a recipe')
    parser.add_argument('--iterations', type=int, default=50, help='to time; default: %(default)s')
    parser.add_argument('--warmup', type=int, default=10, help='before; default: %(default)s')
    parser.add_argument(
        '--try',
        dest='kinds',
        nargs='*',
        choices=KINDS,
        help='settings to try on bare steps; nothing behind it for none; default: all on a GPU, '
        f'{", ".join(KINDS_ON_CPU)} on a CPU',
    )
    parser.add_argument('--gpus', type=int, help='of the planned run; default: those that measure')
    parser.add_argument('--price', type=float, help='of a device for an hour, in any currency')
    parser.add_argument(
        '--peak-tflops',
        type=float,
        help="of a device in the run's precision; default: the data sheet's, else measured",
    )
    parser.add_argument('--amp', action='store_true', help='as of bimm train')
    parser.add_argument('--work-dir', help="for the page; default: the run's, work_dirs/<config>")
    add_config_options(parser, 'train_dataloader.batch_size=32')
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none')
    args = parser.parse_args(argv)
    if args.iterations < 1 or args.warmup < 2:
        parser.error('--iterations must be at least 1, --warmup at least 2')
    for name in ('gpus', 'price', 'peak_tflops'):
        if (getattr(args, name) or 1) <= 0:
            parser.error(f'--{name.replace("_", "-")} must be positive')
    return args


def given_options(words: list[str]) -> tuple[str, ...]:
    """What stands behind ``--cfg-options`` in a command line."""
    if '--cfg-options' not in words:
        return ()
    behind = words[words.index('--cfg-options') + 1 :]
    return tuple(takewhile(lambda word: not word.startswith('--'), behind))


def load_config(args: argparse.Namespace) -> Config:
    """The config as the run would have it, checked but for the weights that it starts from.

    Raises:
        ConfigError: For whatever would fail later; the message lists every reason.
    """
    cfg = read_config(args.config, args.cfg_options, args.launcher, args.work_dir)
    check_config(without_initialization(cfg))
    check_strategy(cfg)
    if args.amp:
        set_amp(cfg, None)
    return cfg


def write(report: Report, asked: Asked, folder: Path) -> None:
    """Write the page and its figures."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / 'preflight.md', markdown(report, asked))
    write_text(folder / 'preflight.json', json.dumps(report.to_dict(), indent=2) + '\n')
    print(f'\nAlso in {folder / "preflight.md"} and preflight.json')


def main() -> None:
    """Check, measure, print."""
    args = parse_args()
    warnings.filterwarnings('ignore', category=UserWarning)
    try:
        cfg = load_config(args)
        check_writable(cfg.work_dir)
    except (ConfigError, WriteError) as error:
        fail(error)
    init_cpu_launcher(cfg)
    console = Console(stderr=True, quiet=False)

    def tell(line: str) -> None:
        if is_main_process():
            console.print(f'preflight: {line}', style='dim', highlight=False)

    peak = args.peak_tflops * 1e12 if args.peak_tflops else None
    kinds = args.kinds
    if kinds is None:
        kinds = KINDS_ON_CPU if get_device() == 'cpu' else KINDS
    settings = Settings(args.iterations, args.warmup, tuple(kinds), args.gpus, args.price, peak)
    try:
        report = measure(cfg, settings, tell)
    except RuntimeError as error:
        fail(error)
    if is_main_process():
        asked = Asked(args.config, given_options(sys.argv), args.amp)
        show(report, asked, Console(width=None if sys.stdout.isatty() else 110))
        write(report, asked, Path(cfg.work_dir))
    leave()


if __name__ == '__main__':
    main()
