"""Time how long a training stands still for a checkpoint, beside the time that writing it takes.

Joint ViT-B takes steps with AdamW on random clips. Its state is copied as WholeCheckpointHook
does it, and written by a thread, while the steps go on. The training stands still while all that
a forward pass may change is copied, and where a step of the optimizer waits for the rest::

    python benchmarks/checkpoint.py                     # into a temporary folder
    python benchmarks/checkpoint.py --folder /mnt/checkpoints --device cuda --batch-size 16
"""

import argparse
import platform
import statistics
import tempfile
import threading
import time
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


class TimedCopy(HostCopy):
    """Notes for how long steps of the optimizer have waited."""

    waited = 0.0

    def finish(self, on_host: bool = True) -> None:
        """Called by the writing thread, and by steps, which wait."""
        began = time.perf_counter()
        super().finish(on_host)
        if threading.current_thread() is threading.main_thread():
            self.waited += time.perf_counter() - began


class Training:
    """A model that takes steps, and writes a checkpoint beside some of them.

    Args:
        config: Of the model, below ``configs``.
        device: Where it is trained.
        batch_size: Clips of a step.
    """

    def __init__(self, config: str, device: str, batch_size: int) -> None:
        cfg = Config.fromfile(CONFIGS / config).model
        self.model = MODELS.build(cfg).to(device).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), fused=device != 'cpu')
        self.copier, self.writer = TimedCopy(), BackgroundWriter()
        self.copier.watch([self.optimizer])
        self.clips = torch.randn(batch_size, 3, 16, 224, 224, device=device)
        self.step()

    def step(self) -> float:
        """Seconds of a step."""
        began = time.perf_counter()
        losses = self.model(self.clips, mode='loss')
        sum(value for name, value in losses.items() if name.startswith('loss')).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.clips.is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - began

    def save(self, path: Path) -> dict[str, float]:
        """Write a checkpoint beside steps; seconds of what there is to time."""
        alone = statistics.median(self.step() for _ in range(3))
        state = dict(state_dict=self.model.state_dict(), optimizer=self.optimizer.state_dict())
        self.copier.waited, writing = 0.0, []
        began = time.perf_counter()
        copied = self.copier.take(state)
        taken = time.perf_counter() - began

        def write() -> None:
            began = time.perf_counter()
            self.copier.finish()
            write_whole(path, partial(torch.save, copied))
            writing.append(time.perf_counter() - began)

        self.writer.start(write)
        beside = [self.step()]
        while self.writer.is_busy:
            beside.append(self.step())
        self.writer.wait()
        return dict(
            alone=alone,
            still=taken + self.copier.waited,
            writing=writing[0],
            first=beside[0],
            beside=statistics.median(beside),
        )


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--config', default='bimm/joint_k400_vitb_edge.py')
    parser.add_argument('--folder', help='where checkpoints are written; default: a temporary one')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--batch-size', type=int, default=1)
    parser.add_argument('--repeats', type=int, default=3)
    args = parser.parse_args()
    training, rows = Training(args.config, args.device, args.batch_size), []
    for number in range(args.repeats + 1):
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            path = Path(folder) / 'checkpoint.pth'
            seconds = training.save(path)
            rows.append((
                'first' if number == 0 else str(number + 1),
                f'{path.stat().st_size / 1e9:.2f}',
                f'{1000 * seconds["still"]:.0f}',
                f'{seconds["writing"]:.2f}',
                f'{seconds["still"] / seconds["writing"]:.2%}',
                *(f'{seconds[name]:.2f}' for name in ('alone', 'first', 'beside')),
            ))  # fmt: skip
    print(
        f'bimm_mm {bimm_mm.__version__}, torch {torch.__version__}, {platform.processor()}, '
        f'{torch.get_num_threads()} threads, {args}'
    )
    head = ('checkpoint', 'GB', 'standstill, ms', 'writing, s', 'share', 'step alone, s',
            'first step beside it, s', 'median step beside it, s')  # fmt: skip
    print(markdown_table(head, rows))


if __name__ == '__main__':
    main()
