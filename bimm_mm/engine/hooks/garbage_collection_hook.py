"""Collect garbage at the same moment in all processes."""

import gc

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner


@HOOKS.register_module()
class GarbageCollectionHook(Hook):
    """Switch Python's automatic garbage collection off while training, and collect at intervals.

    Otherwise each process stops for it when it happens to, and at every step all wait for the one
    that does; with many processes it is nearly always some of them.

    Args:
        interval: Iterations between two collections of young objects.
        full_interval: Iterations between two of all objects, which take longer.

    Raises:
        ValueError: An interval is not positive.
    """

    def __init__(self, interval: int = 50, full_interval: int = 1000) -> None:
        if interval < 1 or full_interval < 1:
            raise ValueError(f'interval={interval} and full_interval={full_interval} must be >= 1')
        self.interval, self.full_interval = interval, full_interval
        self._was_on = False

    def before_train(self, runner: Runner) -> None:
        """Collect once, and switch the automatic collection off."""
        self._was_on = gc.isenabled()
        gc.collect()
        gc.disable()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs=None
    ) -> None:
        """Collect, where it is time."""
        if self.every_n_train_iters(runner, self.full_interval):
            gc.collect()
        elif self.every_n_train_iters(runner, self.interval):
            gc.collect(1)

    def after_train(self, runner: Runner) -> None:
        """Switch the automatic collection on again, if it was."""
        if self._was_on:
            gc.enable()

    after_failure = after_train
