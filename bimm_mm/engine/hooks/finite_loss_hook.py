"""Stop a run before a loss that is not finite reaches the weights."""

import math

import numpy as np
import torch
from mmengine.dist import all_gather_object, all_reduce, get_dist_info
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer, print_log
from mmengine.optim import OptimWrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils.data import Dataset

from ...utils.wrappers import unwrap_model
from ..late import LateValues
from ..schedules import ScheduleState
from ..seeding import NumberedBatches
from ..sharded import whole
from .checkpoint_hook import WholeCheckpointHook

FILE_KEYS = ('filename', 'img_path', 'frame_dir')  # mmaction2's and mmpretrain's

CHECKPOINT_INFO = ('last_ckpt', 'keep_ckpt_ids')  # which a checkpoint hook notes before it writes


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Stop the run before a NaN or infinite loss or gradient reaches the weights.

    Under loss scaling (float16), such a step is skipped by the scaler, as mmengine does it, and
    the run stops only after ``patience`` of them in a row. Else it stops at once: the state before
    the step is saved, and the error names the losses and the files of the batch. Under DeepSpeed,
    whose optimizer shows no gradients, only the losses are looked at, and none may be skipped.

    On an accelerator nothing waits for the answer: a fused optimizer skips the step by itself, on
    the device, in all processes, and the host looks one step later. Then the state is what it was
    before the step, schedules included, and no checkpoint is written in between.

    Args:
        patience: Steps in a row that loss scaling may skip.
        late: Whether the host looks one step later; None where the model is on an accelerator. Only
            for optimizers with ``fused=True``; others are stopped at once.
    """

    priority = 'VERY_HIGH'

    def __init__(self, patience: int = 50, late: bool | None = None) -> None:
        if patience < 1:
            raise ValueError(f'patience={patience} must be at least 1')
        self.patience, self.late = patience, late
        self.skipped = 0
        self._sent = LateValues()
        self._losses: dict[str, Tensor] = {}
        self._indices: list[int] = []
        self._stepped = self._is_late = self._guards = False
        self._handles: list = []

    def before_train(self, runner: Runner) -> None:
        """Register hooks on the model's output and on the optimizer's steps."""
        self._runner = runner
        model = unwrap_model(runner.model)
        optimizer = runner.optim_wrapper.optimizer
        self._handles = [model.register_forward_hook(self._keep_losses)]
        on_accelerator = any(p.device.type != 'cpu' for p in model.parameters())
        wanted = on_accelerator if self.late is None else self.late
        # a flag that is whole cannot stop a step of parameters that are divided
        wanted = wanted and not any(isinstance(p, DTensor) for p in model.parameters())
        self._is_late = wanted and getattr(optimizer, '_step_supports_amp_scaling', False)
        if self._is_late:
            self._handles.append(optimizer.register_step_pre_hook(self._guard_step))
            self._handles.append(optimizer.register_step_post_hook(self._lift_guard))
        elif hasattr(optimizer, 'register_step_pre_hook'):
            self._handles.append(optimizer.register_step_pre_hook(self._check_step))
        else:  # DeepSpeed's, which holds no gradients to look at
            self._handles.append(model.register_forward_hook(self._check_losses))

    def after_train(self, runner: Runner) -> None:
        """Look at the last step, and remove the hooks."""
        self._look()
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
        if self._is_late:  # what loss scaling skips is counted by :meth:`_look`
            self._losses, self._indices = {}, []
            return
        with_scale = hasattr(runner.optim_wrapper, 'loss_scaler')
        self._count_skipped(with_scale and not self._stepped, runner.iter)
        self._losses, self._indices = {}, []

    def after_train_epoch(self, runner: Runner) -> None:
        """Look at the last step of the epoch."""
        self._look()

    def before_val_epoch(self, runner: Runner) -> None:
        """Look at the last step before a validation."""
        self._look()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Look at the last step: the checkpoint would say that it was taken."""
        self._look()

    def _count_skipped(self, skipped: bool, iteration: int) -> None:
        """Count the steps in a row that loss scaling skipped."""
        self.skipped = self.skipped + 1 if skipped else 0
        if self.skipped > self.patience:
            told = f'loss scaling has skipped {self.skipped} steps in a row'
            self._stop([told], iteration + 1, iteration)
        if self.skipped:
            print_log(
                f'iteration {iteration + 1}: the gradient is not finite; loss scaling skips the '
                f'step ({self.skipped} in a row)',
                'current',
                level=30,
            )

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
        self._check(_gradient_norm(optimizer))

    def _guard_step(self, optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
        """Let the device skip the step if a loss or gradient is not finite; look at the last."""
        self._look()
        scaled = getattr(optimizer, 'found_inf', None)
        if scaled is not None:  # loss scaling has looked already
            self._sent.send(scaled, dict(iteration=self._runner.iter))
            return
        values, bad = self._judge(_gradient_norm(optimizer))
        optimizer.found_inf = bad.float()
        self._guards = True
        note = dict(
            iteration=self._runner.iter,
            losses=list(self._losses),
            indices=self._indices,
            schedule=ScheduleState(self._runner),
            info={key: self._runner.message_hub.runtime_info.get(key) for key in CHECKPOINT_INFO},
        )
        self._sent.send(torch.cat([bad.float().view(1), values]), note)

    def _lift_guard(self, optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
        """Leave the optimizer as it was."""
        if self._guards:  # else loss scaling takes away what it set
            del optimizer.found_inf
        self._guards = False

    def _look(self) -> None:
        """Look at the steps that were guarded: stop before the first bad one."""
        for host, note in self._sent.arrived():
            bad, *values = host.flatten().tolist()
            if 'losses' not in note:
                self._count_skipped(bool(bad), note['iteration'])
            elif bad:
                self._sent.clear()
                note['schedule'].restore()
                for key, value in note['info'].items():
                    self._runner.message_hub.update_info(key, value)
                _forget_last(self._runner)
                self._indices = note['indices']
                reasons = _reasons(dict(zip(note['losses'], values[1:], strict=True)), values[0])
                self._stop(reasons, note['iteration'], note['iteration'])

    def _judge(self, norm: Tensor) -> tuple[Tensor, Tensor]:
        """The norm and the losses, and whether one is not finite in any process."""
        losses = [value.to(norm.device) for value in self._losses.values()]
        values = torch.stack([norm.float(), *losses])
        bad = (~values.isfinite()).any().int()
        all_reduce(bad, 'max')  # all processes stop together
        return values, bad

    def _check(self, norm: Tensor) -> None:
        """Stop if a loss, or the norm of the gradient, is not finite."""
        values, bad = self._judge(norm)
        if bad:
            number, *losses = values.tolist()
            reasons = _reasons(dict(zip(self._losses, losses, strict=True)), number)
            self._stop(reasons, self._runner.iter, self._runner.iter)

    def _stop(self, reasons: list[str], done: int, iteration: int) -> None:
        """Save the state after ``done`` iterations, and raise the error of ``iteration``."""
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
        if hooks and done:
            last = f'State before it: {hooks[0].save_now(runner, done)}'
        else:
            known = runner.message_hub.runtime_info.get('last_ckpt')
            last = f'Last checkpoint: {known or "none"}'
        raise FloatingPointError(
            f'iteration {iteration + 1}: {told}. {last}. A lower learning rate, gradient '
            'clipping (optim_wrapper.clip_grad) or bfloat16 instead of float16 may help; --resume '
            'with nothing changed comes to the same point again.'
        )


def _gradient_norm(optimizer: torch.optim.Optimizer) -> Tensor:
    parameters = [p for group in optimizer.param_groups for p in group['params']]
    return whole(torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))


def _reasons(losses: dict[str, float], norm: float) -> list[str]:
    """What is not finite in this process."""
    found = [f'{name} is {value}' for name, value in losses.items() if not math.isfinite(value)]
    if not found and not math.isfinite(norm):
        found = [f'the norm of the gradient is {norm}, of a finite loss']
    return found


def _forget_last(runner: Runner) -> None:
    """Take what is not finite out of the log: a run that goes on would average it."""
    scalars = runner.message_hub.log_scalars
    for name in [name for name in scalars if 'loss' in name or 'grad_norm' in name]:
        values, counts = scalars[name].data
        known = np.isfinite(values)
        if not known.all():
            scalars[name] = HistoryBuffer(values[known], counts[known])


def skips_step(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a fused optimizer will skip the step that it is called for, under loss scaling."""
    found = getattr(optimizer, 'found_inf', None)
    return found is not None and bool(found)


def _name(dataset: Dataset, index: int) -> str:
    """Return the file of a sample, if the dataset knows it."""
    info = dataset.get_data_info(index) if hasattr(dataset, 'get_data_info') else {}
    return next((str(info[key]) for key in FILE_KEYS if key in info), f'sample {index}')
