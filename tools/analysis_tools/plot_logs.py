"""Curves of one or several runs: losses, explained variances, learning rate, gradients, time.

    python tools/analysis_tools/plot_logs.py work_dirs/joint_k400_vitb --out curves.png
    python tools/analysis_tools/plot_logs.py work_dirs/first work_dirs/second --labels lr1 lr2

Reads what LocalVisBackend writes, ``vis_data/scalars.json``; a work dir stands for all starts of a
run that was resumed.
"""

import argparse
from pathlib import Path

from bimm_mm.cli.arguments import fail
from bimm_mm.visualization import save_figure
from bimm_mm.visualization.curves import draw_curves, read_run


def main() -> None:
    """Read the runs, and draw them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('runs', nargs='+', help='work dirs, or files scalars.json')
    parser.add_argument(
        '--out', type=Path, help='default: curves.png in the work dir of one run, else here'
    )
    parser.add_argument('--labels', nargs='+', help="of the runs; default: their folders' names")
    args = parser.parse_intermixed_args()
    if args.out is None:
        only = Path(args.runs[0]) if len(args.runs) == 1 and Path(args.runs[0]).is_dir() else Path()
        args.out = only / 'curves.png'
    labels = args.labels or [_label(path) for path in args.runs]
    if len(labels) != len(args.runs) or len(set(labels)) < len(labels):
        parser.error(f'--labels: {len(args.runs)} different ones are needed, not {labels}')
    try:
        runs = {label: read_run(path) for label, path in zip(labels, args.runs, strict=True)}
        print(save_figure(draw_curves(runs), args.out))
    except (ValueError, OSError) as error:
        fail(error)


def _label(path: str) -> str:
    path = Path(path)
    return path.parents[2].name if path.name == 'scalars.json' else path.name


if __name__ == '__main__':
    main()
