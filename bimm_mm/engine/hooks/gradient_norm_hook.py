"""Log the gradient norms of the parts of a model."""

import math

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch.distributed.fsdp import FullyShardedDataParallel

from ...utils.wrappers import unwrap_model
from ..sharded import whole
from .finite_loss_hook import skips_step


@HOOKS.register_module()
class GradientNormHook(Hook):
    """Log the gradient norms of the shared blocks and of the rest of each branch.

    The norms are taken as the optimizer is about to use them: without loss scale, after
    clipping, of the whole gradient where it is sharded (FSDP). They appear in the log as
    ``grad_norm_shared``, ``grad_norm_ventral`` and ``grad_norm_dorsal``, those that there are.
    Under DeepSpeed there are none.

    Args:
        interval: Steps of the optimizer between two measurements. Where gradients are
            accumulated, a step takes several iterations.
    """

    def __init__(self, interval: int = 50) -> None:
        if interval < 1:
            raise ValueError(f'interval={interval} must be at least 1')
        self.interval = interval
        self._handle = None

    def before_train(self, runner: Runner) -> None:
        """Register a hook on the optimizer's steps."""
        optimizer = runner.optim_wrapper.optimizer
        if not hasattr(optimizer, 'register_step_pre_hook'):  # DeepSpeed's
            print_log(f'{type(optimizer).__name__} holds no gradients to measure', 'current')
            return
        model = unwrap_model(runner.model)
        groups = model.gradient_groups()
        sharded = isinstance(runner.model, FullyShardedDataParallel)
        accumulated = getattr(runner.optim_wrapper, '_accumulative_counts', 1)

        def measure(optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
            step = math.ceil((runner.iter + 1) / accumulated)  # the last one may be of fewer
            if step % self.interval or skips_step(optimizer):
                return
            scale = getattr(optimizer, 'grad_scale', None)  # of the loss, under a fused optimizer
            for name, parameters in groups.items():
                gradients = [p.grad for p in parameters if p.grad is not None]
                norm = whole(torch.nn.utils.get_total_norm(gradients)).to(parameters[0].device)
                if sharded:  # each process holds another part of every gradient
                    square = norm.square()
                    all_reduce(square)
                    norm = square.sqrt()
                norm = norm if scale is None else norm / scale.to(norm.device)
                runner.message_hub.update_scalar(f'train/grad_norm_{name}', norm)

        self._handle = optimizer.register_step_pre_hook(measure)

    def after_train(self, runner: Runner) -> None:
        """Remove the hook."""
        if self._handle is not None:
            self._handle.remove()
