"""Stop a run before a loss that is not finite reaches the weights."""

import torch
from mmengine.dist import all_gather_object, all_reduce, get_dist_info
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import Dataset

from ..seeding import NumberedBatches
from .checkpoint_hook import WholeCheckpointHook

FILE_KEYS = ('filename', 'img_path', 'frame_dir')  # mmaction2's and mmpretrain's


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Stop the run before a NaN or infinite loss or gradient reaches the weights.

    Under loss scaling (float16), such a step is skipped by the scaler, as mmengine does it, and
    the run stops only after ``patience`` of them in a row. Else it stops at once: the state before
    the step is saved, and the error names the losses and the files of the batch. Under DeepSpeed,
    whose optimizer shows no gradients, only the losses are looked at, and none may be skipped.

    Args:
        patience: Steps in a row that loss scaling may skip.
    """

    priority = 'VERY_HIGH'

    def __init__(self, patience: int = 50) -> None:
        if patience < 1:
            raise ValueError(f'patience={patience} must be at least 1')
        self.patience = patience
        self.skipped = 0
        self._losses: dict[str, Tensor] = {}
        self._indices: list[int] = []
        self._stepped = False
        self._handles: list = []

    def before_train(self, runner: Runner) -> None:
        """Register hooks on the model's output and on the optimizer's steps."""
        self._runner = runner
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        optimizer = runner.optim_wrapper.optimizer
        self._handles = [model.register_forward_hook(self._keep_losses)]
        if hasattr(optimizer, 'register_step_pre_hook'):
            self._handles.append(optimizer.register_step_pre_hook(self._check_step))
        else:  # DeepSpeed's, which holds no gradients to look at
            self._handles.append(model.register_forward_hook(self._check_losses))

    def after_train(self, runner: Runner) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Record which samples the batch holds."""
        self._stepped = False
        batches = runner.train_dataloader.batch_sampler
        if isinstance(batches, NumberedBatches):
            self._indices += batches.indices_of(runner.iter)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs=None
    ) -> None:
        """Count the steps that loss scaling skipped.

        Raises:
            FloatingPointError: There were more than ``patience`` in a row.
        """
        accumulates = isinstance(runner.optim_wrapper, OptimWrapper)  # DeepSpeed's does not
        if accumulates and not runner.optim_wrapper.should_update():
            return
        with_scale = hasattr(runner.optim_wrapper, 'loss_scaler')
        self.skipped = self.skipped + 1 if with_scale and not self._stepped else 0
        if self.skipped > self.patience:
            self._stop([f'loss scaling has skipped {self.skipped} steps in a row'], runner.iter + 1)
        if self.skipped:
            print_log(
                f'iteration {runner.iter + 1}: the gradient is not finite; loss scaling skips the '
                f'step ({self.skipped} in a row)',
                'current',
                level=30,
            )
        self._losses, self._indices = {}, []

    def _keep_losses(self, model: nn.Module, args: tuple, output: object) -> None:
        if model.training and isinstance(output, dict):
            new = {name: value for name, value in output.items() if 'loss' in name}
            for name, value in new.items():
                parts = value if isinstance(value, list | tuple) else [value]
                total = sum(torch.as_tensor(part).detach().float().sum() for part in parts)
                self._losses[name] = self._losses.get(name, 0) + total

    def _check_losses(self, model: nn.Module, args: tuple, output: object) -> None:
        """Check the losses of a forward pass."""
        if self._losses:
            self._check(torch.zeros_like(next(iter(self._losses.values()))))

    def _check_step(self, optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
        """Check losses and gradients before a step of the optimizer."""
        if skips_step(optimizer):
            return
        self._stepped = True
        parameters = [p for group in optimizer.param_groups for p in group['params']]
        gradients = [p.grad for p in parameters if p.grad is not None]
        self._check(torch.nn.utils.get_total_norm(gradients))

    def _check(self, norm: Tensor) -> None:
        """Stop if a loss, or the norm of the gradient, is not finite."""
        values = [value.to(norm.device) for value in self._losses.values()]
        bad = (~torch.stack([norm.float(), *values]).isfinite()).any().int()
        all_reduce(bad, 'max')  # all processes stop together
        if bad:
            losses = {name: value.item() for name, value in self._losses.items()}
            reasons = [
                f'{name} is {value}'
                for name, value in losses.items()
                if not torch.tensor(value).isfinite()
            ]
            if not reasons and not norm.isfinite():
                reasons = [f'the norm of the gradient is {norm.item()}, of a finite loss']
            self._stop(reasons, self._runner.iter)

    def _stop(self, reasons: list[str], iteration: int) -> None:
        """Save the state after ``iteration`` iterations, and raise the error."""
        runner = self._runner
        rank, processes = get_dist_info()
        names = [_name(runner.train_dataloader.dataset, index) for index in self._indices]
        told = ', '.join(reasons)
        if reasons and names:
            told += f', on {", ".join(names)}'
        if processes > 1:
            reports = all_gather_object(told)
            told = '; '.join(f'process {i}: {report}' for i, report in enumerate(reports) if report)
        hooks = [hook for hook in runner.hooks if isinstance(hook, WholeCheckpointHook)]
        if hooks and iteration:
            last = f'State before it: {hooks[0].save_now(runner, iteration)}'
        else:
            known = runner.message_hub.runtime_info.get('last_ckpt')
            last = f'Last checkpoint: {known or "none"}'
        raise FloatingPointError(
            f'iteration {runner.iter + 1}: {told}. {last}. A lower learning rate, gradient '
            'clipping (optim_wrapper.clip_grad) or bfloat16 instead of float16 may help; --resume '
            'with nothing changed comes to the same point again.'
        )


def skips_step(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a fused optimizer will skip the step that it is called for, under loss scaling."""
    found = getattr(optimizer, 'found_inf', None)
    return found is not None and bool(found)


def _name(dataset: Dataset, index: int) -> str:
    """Return the file of a sample, if the dataset knows it."""
    info = dataset.get_data_info(index) if hasattr(dataset, 'get_data_info') else {}
    return next((str(info[key]) for key in FILE_KEYS if key in info), f'sample {index}')
