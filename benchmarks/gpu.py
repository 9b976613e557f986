"""All that only a GPU can show, in one run for a machine that is lent for minutes.

Each part has a time limit of its own and writes its results as it goes; the most valuable come
first, so that a cut leaves what was done. What times nothing runs side by side, the tests in
several processes where there is pytest-xdist. A table of all parts comes last. On the machine::

    python3 -m pip install -q --no-index --no-deps --no-compile WHEELS/*.whl
    export PYTHONPATH=$PWD
    python3 benchmarks/gpu.py RESULTS --clips CLIPS --minutes 9

``--device cpu`` rehearses every part in tiny sizes, so that a mistake is not found there. Parts
that would begin after the time is up are left out: those at the end of the list first.
"""

import argparse
import importlib.util
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bimm_mm.utils.tables import markdown_table

ROOT = Path(__file__).parents[1]
STEP = 'benchmarks/step.py'
VIDEO = ('hf_videomae', 'videomae', 'joint')
IMAGE = ('hf_mae', 'mae')
JOINT = 'configs/bimm/joint_k400_vitb_edge.py'
DEMO = 'configs/bimm/demo/joint_shapes.py'
LINKS = 1024  # samples of an epoch, made of a few clips
# what the recipes import, so that what is missing shows at once
ENVIRONMENT = """
import platform, torch, torchvision, numpy, mmengine, mmcv, mmaction, mmpretrain, transformers
import bimm_mm, bimm_mm.datasets.video, bimm_mm.datasets.image, cv2, av, decord, scipy, rich
print('python', platform.python_version(), 'CUDA', torch.version.cuda, torch.cuda.is_available())
for module in (torch, torchvision, numpy, mmengine, mmcv, mmaction, mmpretrain, transformers, cv2):
    print(module.__name__, module.__version__)
if torch.cuda.is_available():
    print(torch.cuda.get_device_name(), torch.cuda.get_device_properties(0).total_memory)
"""
CLOCK = 6  # columns of the seconds before each line of a log
TEST_PROCESSES = '8'  # one has the GPU to itself for a small part of its time


@dataclass(frozen=True)
class Part:
    """A command with a time limit.

    Attributes:
        name: Of its log, and of its figures.
        minutes: After which it is ended.
        command: Arguments for this Python; called when its turn comes.
        summary: The figures that matter, from the folder of results; '' where it left none.
        beside: It times nothing, and runs beside those next to it in the list that do not either.
    """

    name: str
    minutes: float
    command: Callable[[], list[str]]
    summary: Callable[[Path], str] = lambda folder: ''
    beside: bool = False


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('results', type=Path, help='folder for logs, figures and the table')
    parser.add_argument('--clips', type=Path, help='folder of videos; without, no run on videos')
    parser.add_argument('--device', choices=('cuda', 'cpu'), default='cuda')
    parser.add_argument('--minutes', type=float, default=9.0, help='in all; default: %(default)s')
    parser.add_argument('--only', nargs='+', metavar='PART', help='parts by name')
    return parser.parse_args(argv)


def parts_of(args: argparse.Namespace) -> list[Part]:
    """All parts, the most valuable first."""
    folder, gpu = args.results, args.device == 'cuda'
    sizes, largest = (('16',), ('16', 'largest')) if gpu else (('2',), ('2', '4'))

    def tests() -> list[str]:
        command = ['-m', 'pytest', '-vv', '-m', 'gpu', 'tests/gpu', '--durations', '8']
        several = gpu and importlib.util.find_spec('xdist') is not None
        return command + (['-n', TEST_PROCESSES, '--dist', 'worksteal'] if several else [])

    def steps(
        name: str, minutes: float, models: tuple[str, ...], sizes: tuple[str, ...], *more: str
    ) -> Part:
        command = [STEP, '--models', *models, '--batch-size', *sizes, '--precision', 'bf16']
        command += ['--device', args.device, '--json', str(folder / f'{name}.json'), *more]
        command += [] if gpu else ['--tiny', '--steps', '2', '--no-memory']
        return Part(name, minutes, lambda: command, step_summary(name, sizes))

    demo = ['tools/demo.py', '--work-dir', str(folder / 'demo')]
    iterations = ['--iterations', '30' if gpu else '2']
    return [
        Part('environment', 0.8, lambda: ['-c', ENVIRONMENT], environment_summary, beside=True),
        Part('tests', 2.5, tests, tests_summary('tests'), beside=True),
        steps('video', 1.5, VIDEO, largest),
        steps('profile', 0.8, VIDEO[2:], sizes, '--profile'),
        Part('preflight', 1.5, lambda: preflight(args), preflight_summary),
        steps('video_branch_graphs', 4.0, VIDEO[1:], sizes, '--compile', 'branch-graphs'),
        steps('video_largest_compiled', 1.5, VIDEO[2:], largest, '--compile', 'blocks'),
        steps('image', 0.8, IMAGE, largest),
        steps('video_graphs', 1.2, VIDEO[1:], sizes, '--compile', 'graphs'),
        steps('video_compiled', 1.5, VIDEO, sizes, '--compile', 'blocks'),
        Part('iteration', 0.5, lambda: ['benchmarks/iteration.py', *iterations], iteration_summary),
        Part('demo', 3.0, lambda: demo if gpu else [*demo[:1], '--help'], demo_summary),
    ]


def preflight(args: argparse.Namespace) -> list[str]:
    """The joint recipe through the Runner, on the clips; the demo's config where there are none."""
    command = ['tools/misc/preflight.py', '--work-dir', str(args.results / 'preflight')]
    config = DEMO if args.clips is None else write_config(args)
    few = ['--iterations', '2', '--warmup', '2', '--try', 'batch']
    if args.device == 'cpu':
        return [*command, config, *few, '--cfg-options', 'train_dataloader.batch_size=2']
    return [*command, config, '--amp', '--price', '2', '--try', 'batch']


def write_config(args: argparse.Namespace) -> str:
    """The joint recipe on the clips, each of which is there many times; tiny in a rehearsal."""
    clips, path = args.results / 'clips', args.results / 'joint_clips.py'
    clips.mkdir(exist_ok=True)
    found = sorted(file.resolve() for file in args.clips.iterdir() if file.is_file())
    for number in range(LINKS if args.device == 'cuda' else 16):
        source = found[number % len(found)]
        link = clips / f'{number}{source.suffix}'
        if not link.exists():
            link.symlink_to(source)
    arch = 'dict(_delete_=True, embed_dims=48, depth=12, num_heads=3)'
    branch = f'dict(backbone=dict(arch={arch}))'
    lines = [f'_base_ = [{str(ROOT / JOINT)!r}]']
    workers = max(1, len(os.sched_getaffinity(0)) - 2)
    if args.device == 'cpu':
        lines.append(f'model = dict(ventral={branch}, dorsal={branch})')
        workers = 1
    lines.append(
        f'train_dataloader = dict(num_workers={workers}, dataset=dict(data_root={str(clips)!r}))'
    )
    path.write_text('\n'.join(lines) + '\n')
    return str(path)


def run_part(part: Part, args: argparse.Namespace, until: float) -> dict:
    """Run a part in a process group of its own; its output goes to a log, with seconds."""
    env = os.environ | {
        'PYTHONPATH': os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')])),
        'PYTHONUNBUFFERED': '1',
        'BIMM_GPU_TESTS': args.device,
        'MPLBACKEND': 'Agg',
    }
    limit = min(60 * part.minutes, until - time.monotonic())
    if args.device == 'cpu':  # a rehearsal takes what it takes
        env['CUDA_VISIBLE_DEVICES'], limit = '', 3600
    if limit < 5:
        return dict(part=part.name, result='left out: the time is up', seconds=0.0, summary='')
    start = time.monotonic()
    command = [sys.executable, *part.command()]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors='replace',
        start_new_session=True,
    )

    def write_log() -> None:
        with open(args.results / f'{part.name}.log', 'w', buffering=1) as log:
            log.write(f'{"":>{CLOCK}} {" ".join(command)}\n')
            for line in process.stdout:
                log.write(f'{time.monotonic() - start:{CLOCK}.1f} {line}')

    writer = threading.Thread(target=write_log, daemon=True)
    writer.start()
    try:
        code = process.wait(limit)
        result = 'ok' if code == 0 else f'exit code {code}'
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.wait()
        result = f'ended after {limit:.0f} s'
    writer.join(5)  # what a process left behind may hold the pipe
    try:
        summary = part.summary(args.results)
    except (OSError, KeyError, ValueError) as error:  # what it left is not whole
        summary = f'no figures: {error}'
    return dict(part=part.name, result=result, seconds=time.monotonic() - start, summary=summary)


def log_lines(path: Path) -> list[str]:
    """The lines of a part's output, without the seconds."""
    return [line[CLOCK + 1 :] for line in path.read_text().splitlines()]


def environment_summary(folder: Path) -> str:
    """The last line: the GPU, or what is missing."""
    return log_lines(folder / 'environment.log')[-1]


def tests_summary(name: str) -> Callable[[Path], str]:
    """How many tests passed, and which failed."""

    def summary(folder: Path) -> str:
        lines = log_lines(folder / f'{name}.log')
        failed = [line for line in lines if line.startswith(('FAILED', 'ERROR'))]
        passed = sum(' PASSED' in line for line in lines)
        return f'{passed} passed, {len(failed)} failed' + ''.join(
            f'; {line}' for line in failed[:5]
        )

    return summary


def step_summary(name: str, sizes: tuple[str, ...]) -> Callable[[Path], str]:
    """Samples a second, MFU and memory of each model."""

    def summary(folder: Path) -> str:
        stems = [f'{name}_{size}' for size in sizes] if len(sizes) > 1 else [name]
        paths = [folder / f'{stem}.json' for stem in stems]
        parts = []
        for path in [path for path in paths if path.exists()]:
            result = json.loads(path.read_text())
            parts.append(f'batch {result["batch_size"]}')
            for model, values in result['models'].items():
                memory = values['peak_memory']
                told = f'{model} {values["samples_per_second"]:.1f}/s, MFU {values["mfu"]:.0%}'
                parts.append(told + ('' if memory is None else f', {memory / 1e9:.1f} GB'))
        return '; '.join(parts)

    return summary


def preflight_summary(folder: Path) -> str:
    """Rate, MFU, hooks and waiting of the joint recipe."""
    figures = json.loads((folder / 'preflight' / 'preflight.json').read_text())
    parts, mean = figures['times']['parts'], figures['times']['mean']
    step = mean - parts['waiting for data'] - parts['hooks and log']
    return (
        f'{figures["times"]["samples"] / mean:.1f} samples/s, MFU {figures["mfu"]:.0%}, hooks and '
        f'log {parts["hooks and log"] / step:.1%} of the step, waiting for data '
        f'{parts["waiting for data"] / mean:.1%}'
    )


def iteration_summary(folder: Path) -> str:
    """The rows of the benchmark's table."""
    lines = log_lines(folder / 'iteration.log')
    rows = [line.strip('| ').split(' | ') for line in lines if 'iteration' in line and '|' in line]
    return '; '.join(f'{name.strip()}: {ratio.strip()}' for name, _, ratio in rows)


def demo_summary(folder: Path) -> str:
    """What the demo explains."""
    figures = json.loads((folder / 'demo' / 'figures.json').read_text())
    return ', '.join(f'{name} {value:.0%}' for name, value in figures['explained'].items())


def write_table(rows: list[dict], folder: Path) -> str:
    """Write what is known so far, as JSON and as a table."""
    (folder / 'parts.json').write_text(json.dumps(rows, indent=2) + '\n')
    cells = [[r['part'], r['result'], f'{r["seconds"]:.0f}', r['summary']] for r in rows]
    table = markdown_table(['part', 'result', 's', 'figures'], cells, 'llrl')
    (folder / 'table.md').write_text(table + '\n')
    return table


def main(argv: list[str] | None = None) -> int:
    """Run all parts; 1 if one has failed."""
    args = parse_args(argv)
    args.results.mkdir(parents=True, exist_ok=True)
    args.results = args.results.resolve()
    until = time.monotonic() + 60 * args.minutes
    parts = parts_of(args)
    known = [part.name for part in parts]
    for name in args.only or ():
        if name not in known:
            sys.exit(f'no part {name}: they are {", ".join(known)}')
    wanted = [part for part in parts if not args.only or part.name in args.only]
    rows, table = [], ''
    for beside, group in itertools.groupby(wanted, lambda part: part.beside):
        with ThreadPoolExecutor(8 if beside and args.device == 'cuda' else 1) as pool:
            for row in pool.map(lambda part: run_part(part, args, until), group):
                rows.append(row)
                table = write_table(rows, args.results)
                print(f'{row["part"]}: {row["result"]}, {row["seconds"]:.0f} s', flush=True)
    print(f'\n{table}')
    return int(any(row['result'] != 'ok' for row in rows))


if __name__ == '__main__':
    sys.exit(main())
