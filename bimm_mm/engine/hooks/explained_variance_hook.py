"""Warn when a stage learns nothing of its target, by ``models/losses/scores.py``."""

import numpy as np
from mmengine.hooks import Hook, LoggerHook
from mmengine.logging import HistoryBuffer, print_log
from mmengine.registry import HOOKS
from mmengine.runner import Runner

PREFIX = 'train/explained_'


@HOOKS.register_module()
class ExplainedVarianceHook(Hook):
    """Warn when a stage explains nothing of its target; keep NaN out of averages.

    Where a target is constant over a batch (static clips have no motion), its explained variance
    is not defined, and the model gives NaN. The hook leaves such values out of the histories, so
    that the averages in the log are those of the other batches.

    Args:
        after_iters: Iterations after which a stage should explain something.
        threshold: Explained variance, averaged over the log's window, below which a warning is
            given.
        window: Iterations that are averaged.
    """

    def __init__(self, after_iters: int = 5000, threshold: float = 0.01, window: int = 100) -> None:
        if not 0 < window <= after_iters:
            raise ValueError(f'window={window} must be 1 to after_iters={after_iters}')
        self.after_iters = after_iters
        self.threshold = threshold
        self.window = window

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs=None
    ) -> None:
        """Check every ``after_iters`` iterations."""
        is_due = (runner.iter + 1) % self.after_iters == 0
        if not is_due and not self.is_logged(runner, batch_idx):
            return  # reading a scalar may wait for the device
        scalars = runner.message_hub.log_scalars
        names = [key for key in scalars if key.startswith(PREFIX)]
        for key in names:
            if np.isnan(scalars[key].data[0]).any():
                scalars[key] = drop_undefined(scalars[key])
        if not is_due:
            return
        for key in names:
            value, name = scalars[key].mean(self.window), key.removeprefix(PREFIX)
            if value < self.threshold:
                print_log(
                    f'After {runner.iter + 1} iterations, {name} explains {value:.1%} of the '
                    'variance of its target: that stage has learned nothing yet. Look at the '
                    "target's scale, the learning rate and the warm-up.",
                    logger='current',
                    level=30,
                )
            elif np.isnan(value):
                print_log(
                    f'After {runner.iter + 1} iterations, the target of {name} was constant in '
                    'every batch: there is nothing to learn from it in these data.',
                    logger='current',
                    level=30,
                )

    def is_logged(self, runner: Runner, batch_idx: int) -> bool:
        """Whether the logger, which comes later in an iteration, reads the scalars of this one."""
        intervals = [hook.interval for hook in runner.hooks if isinstance(hook, LoggerHook)]
        numbers = (runner.iter + 1, batch_idx + 1)
        return self.end_of_epoch(runner.train_dataloader, batch_idx) or any(
            number % interval == 0 for interval in intervals for number in numbers
        )


def drop_undefined(history: HistoryBuffer) -> HistoryBuffer:
    """Return a history without its NaN; with a single one where it has nothing else."""
    values, counts = history.data
    known = ~np.isnan(values)
    if not known.any():
        known[-1] = True
    return HistoryBuffer(values[known], counts[known], history.max_length)
