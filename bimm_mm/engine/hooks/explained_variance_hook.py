"""Warn when a stage learns nothing of its target."""

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import Runner


@HOOKS.register_module()
class ExplainedVarianceHook(Hook):
    """Say when a stage explains nothing of its target.

    Args:
        after_iters (int): iterations after which a stage should explain something.
        threshold (float): explained variance, averaged over the log's window, below which a
            warning is given.
        window (int): iterations that are averaged.
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
        """Check once, after ``after_iters``, and again each as many iterations."""
        if (runner.iter + 1) % self.after_iters:
            return
        for key, history in runner.message_hub.log_scalars.items():
            name = key.removeprefix('train/explained_')
            if name == key:
                continue
            value = history.mean(self.window)
            if not value >= self.threshold:
                print_log(
                    f'After {runner.iter + 1} iterations, {name} explains {value:.1%} of the '
                    'variance of its target: that stage has learned nothing yet. Look at the '
                    "target's scale, the learning rate and the warm-up.",
                    logger='current',
                    level=30,
                )
