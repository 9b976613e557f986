"""Time the whole iteration of a Runner: beside the bare step, and after a million logged ones.

Iterations take turns between a log that begins and one that holds ``--logged`` values of each
scalar, so that whatever else the machine does falls on both alike; each is charged with the time of
this process alone. Examples::

    python benchmarks/iteration.py
    python benchmarks/iteration.py --plain          # mmengine's own history
    python benchmarks/iteration.py --config configs/bimm/joint_k400_vitb_edge.py --iterations 40
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer
from mmengine.runner import Runner

from bimm_mm.engine.history import LoggedScalars
from bimm_mm.utils.tables import markdown_table

DEMO = Path(__file__).parents[1] / 'configs/bimm/demo/joint_shapes.py'
WARM_UP = 6


class TwoLogs(Hook):
    """Gives every other iteration a log of many values, and times all of them.

    Args:
        logged: Values of each scalar in the long log.
    """

    priority = 'HIGHEST'

    def __init__(self, logged: int) -> None:
        self.logged = logged
        self.times: dict[str, list[float]] = dict(first=[], long=[], step=[])
        self.current = None

    def before_train(self, runner: Runner) -> None:
        """Time the bare step, too."""
        self.start = time.process_time()
        train_step = runner.model.train_step

        def timed_step(*args, **kwargs) -> dict:
            start = time.process_time()
            result = train_step(*args, **kwargs)
            self.step = time.process_time() - start
            return result

        runner.model.train_step = timed_step

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Note the iteration that has ended, and change the log."""
        now = time.process_time()
        if runner.iter > WARM_UP:
            self.times[self.current].append(now - self.start)
            self.times['step'].append(self.step)
        if runner.iter == WARM_UP:
            self._make_logs(runner)
        if runner.iter >= WARM_UP:
            self.current = 'long' if runner.iter % 2 else 'first'
            runner.message_hub._log_scalars = self.logs[self.current]
            for hook in runner.hooks:
                if hasattr(hook, '_scalars'):
                    hook._scalars = self.logs[self.current]
        self.start = time.process_time()

    def _make_logs(self, runner: Runner) -> None:
        short = runner.message_hub._log_scalars
        values = {name: float(history.current()) for name, history in short.items()}
        long = {n: HistoryBuffer([v] * self.logged, [1] * self.logged) for n, v in values.items()}
        if isinstance(short, LoggedScalars):
            long = LoggedScalars(long, short.kept)
        self.logs = dict(first=short, long=long)


def measure(config: str, iterations: int, logged: int, plain: bool) -> dict[str, float]:
    """Median seconds of an iteration with a log that begins, with a long one, and of a step."""
    cfg = Config.fromfile(config)
    cfg.train_cfg.update(max_iters=2 * iterations + WARM_UP + 1)
    if plain:
        cfg.default_hooks.pop('history')
    two_logs = TwoLogs(logged)
    cfg.log_level, cfg.param_scheduler = 'ERROR', None
    with tempfile.TemporaryDirectory() as folder:
        cfg.work_dir = folder
        runner = Runner.from_cfg(cfg)
        runner.register_hook(two_logs)
        runner.train()
    return {name: statistics.median(times) for name, times in two_logs.times.items()}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--config', default=str(DEMO), help='of a run by iterations')
    parser.add_argument('--iterations', type=int, default=60, help='timed with each log')
    parser.add_argument('--logged', type=int, default=1_000_000)
    parser.add_argument('--plain', action='store_true', help="mmengine's own history")
    args = parser.parse_args()
    seconds = measure(args.config, args.iterations, args.logged, args.plain)
    first, long, step = (1e3 * seconds[name] for name in ('first', 'long', 'step'))
    rows = [
        ['bare step', f'{step:.1f}', ''],
        ['iteration, log begins', f'{first:.1f}', f'{first / step:.3f} of the step'],
        [f'iteration after {args.logged:,}', f'{long:.1f}', f'{long / first:.3f} of the first'],
    ]
    print(markdown_table(['', 'ms of CPU', 'ratio'], rows, 'lrl'))


if __name__ == '__main__':
    main()
