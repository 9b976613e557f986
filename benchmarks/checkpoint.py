"""Time how long a training stands still for a checkpoint, beside the time that writing it takes.

The state is that of a model and AdamW after a step. It is copied as WholeCheckpointHook copies it,
and written by a thread, while this one goes on with small steps, whose pace is measured::

    python benchmarks/checkpoint.py                     # joint ViT-B, into a temporary folder
    python benchmarks/checkpoint.py --folder /mnt/checkpoints --device cuda
"""

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS

import bimm_mm
from bimm_mm.engine.background import BackgroundWriter, HostCopy
from bimm_mm.utils.files import write_whole
from bimm_mm.utils.tables import markdown_table

CONFIGS = Path(__file__).parents[1] / 'configs'


def make_state(config: str, device: str) -> dict:
    """Weights and the optimizer's state of a model, as a checkpoint has them."""
    model = MODELS.build(Config.fromfile(CONFIGS / config).model).to(device)
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return dict(state_dict=model.state_dict(), optimizer=optimizer.state_dict())


def timed(work: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def small_steps(until: Callable[[], bool], device: str) -> list[float]:
    """Milliseconds of small steps of a training, for as long as asked."""
    layers = torch.nn.Sequential(*(torch.nn.Linear(256, 256) for _ in range(20))).to(device)
    x, found = torch.ones(64, 256, device=device), []
    while until():
        began = time.perf_counter()
        layers(x).square().mean().backward()
        if device != 'cpu':
            torch.cuda.synchronize()
        found.append(1000 * (time.perf_counter() - began))
    return found


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--config', default='bimm/joint_k400_vitb.py')
    parser.add_argument('--folder', help='where checkpoints are written; default: a temporary one')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--repeats', type=int, default=3)
    args = parser.parse_args()
    state, copier, writer, rows = (
        make_state(args.config, args.device),
        HostCopy(),
        BackgroundWriter(),
        [],
    )
    for number in range(args.repeats + 1):
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            path = Path(folder) / 'checkpoint.pth'
            end = time.perf_counter() + 2
            alone = small_steps(lambda: time.perf_counter() < end, args.device)  # noqa: B023
            copied: list = []
            standstill = timed(lambda: copied.append(copier.take(state)))  # noqa: B023
            seconds: list[float] = []
            write = partial(write_whole, path, partial(torch.save, copied[0]))
            writer.start(lambda: seconds.append(timed(write)))  # noqa: B023
            beside = small_steps(lambda: writer.is_busy, args.device)
            writer.wait()
            rows.append((
                'first' if number == 0 else str(number + 1),
                f'{path.stat().st_size / 1e9:.2f}',
                f'{standstill:.3f}',
                f'{seconds[0]:.2f}',
                f'{standstill / seconds[0]:.1%}',
                f'{statistics.median(beside) / statistics.median(alone):.2f}',
                f'{max(beside):.0f}',
            ))  # fmt: skip
    print(
        f'bimm_mm {bimm_mm.__version__}, torch {torch.__version__}, {platform.processor()}, {args}'
    )
    head = ('checkpoint', 'GB', 'standstill, s', 'writing, s', 'share', 'step beside it / alone',
            'longest step beside it, ms')  # fmt: skip
    print(markdown_table(head, rows))


if __name__ == '__main__':
    main()
