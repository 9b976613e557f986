"""Hooks that watch pretraining."""

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch.distributed.fsdp import FullyShardedDataParallel

from .finite import skips_step


@HOOKS.register_module()
class GradientNormHook(Hook):
    """Log the gradient norms of the shared blocks and of the rest of each branch.

    The norms are taken as the optimizer is about to use them: without loss scale, after
    clipping, of the whole gradient where it is sharded (FSDP). They appear in the log as
    ``grad_norm_shared``, ``grad_norm_ventral`` and ``grad_norm_dorsal``, those that there are.
    Under DeepSpeed there are none.

    Args:
        interval (int): iterations between two measurements.
    """

    def __init__(self, interval: int = 50) -> None:
        if interval < 1:
            raise ValueError(f'interval={interval} must be at least 1')
        self.interval = interval
        self._handle = None

    def before_train(self, runner: Runner) -> None:
        """Listen to the optimizer's steps."""
        optimizer = runner.optim_wrapper.optimizer
        if not hasattr(optimizer, 'register_step_pre_hook'):  # DeepSpeed's
            print_log(f'{type(optimizer).__name__} holds no gradients to measure', 'current')
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        groups = model.gradient_groups()
        sharded = isinstance(runner.model, FullyShardedDataParallel)

        def measure(optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
            if (runner.iter + 1) % self.interval or skips_step(optimizer):
                return
            scale = getattr(optimizer, 'grad_scale', None)  # of the loss, under a fused optimizer
            for name, parameters in groups.items():
                gradients = [p.grad for p in parameters if p.grad is not None]
                norm = torch.nn.utils.get_total_norm(gradients).to(parameters[0].device)
                if sharded:  # each process holds another part of every gradient
                    square = norm.square()
                    all_reduce(square)
                    norm = square.sqrt()
                norm = norm if scale is None else norm / scale.to(norm.device)
                runner.message_hub.update_scalar(f'train/grad_norm_{name}', norm)

        self._handle = optimizer.register_step_pre_hook(measure)

    def after_train(self, runner: Runner) -> None:
        """Stop listening."""
        if self._handle is not None:
            self._handle.remove()


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
