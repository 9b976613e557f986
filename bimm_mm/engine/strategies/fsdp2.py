"""FSDP by torch's ``fully_shard``, in place: shared blocks need no rule."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine._strategy import DDPStrategy
from mmengine.device import get_device
from mmengine.dist import broadcast, is_main_process
from mmengine.optim import BaseOptimWrapper
from mmengine.registry import STRATEGIES
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.utils.checkpoint import checkpoint

from ...models.layers import TransformerBlock
from ...utils import draws
from ..sharded import divide, load_parts, save_parts, to_first_process, whole

CHECKPOINTS = ('whole', 'sharded')


@STRATEGIES.register_module()
class FullyShardStrategy(DDPStrategy):
    """FSDP2: parameters, gradients and the optimizer's state are divided among the processes.

    As one line of a config::

        strategy = dict(type='FullyShardStrategy')

    Each Transformer block is a unit, whose weights are gathered when it runs; the rest of the model
    is another. ``fully_shard`` changes modules in place, so a block that serves two branches is one
    unit, and parameters keep their names: parameter groups, decay and layer-wise rates are those
    of DDP. ``optim_wrapper.clip_grad`` clips by the norm of the whole gradient. All processes start
    from the weights of the first one. It runs on processes without an accelerator, too.

    Args:
        checkpoints: 'whole', the file that DDP writes, by the first process; it gathers one
            tensor after the other in the memory of its host. 'sharded', a folder of which each
            process writes a part. Both can be read with any number of processes; the former also
            by anything that reads a checkpoint of DDP, which can be resumed from here as well.
        param_dtype: In which weights are gathered and computed with, as 'bfloat16'; the recipe's
            ``--amp`` does without.
        reduce_dtype: In which gradients are summed up, float32 by default.
        reshard_after_forward: Whether a block's weights are given back after the forward pass, and
            gathered again for the backward pass (ZeRO-3), or kept until then (ZeRO-2).
        checkpoint_every: Of the encoders' blocks, every n-th forgets its activations and computes
            them anew in the backward pass: 1 does so in all, 2 in every second one. None at all
            when left out.
        **kwargs: As mmengine's DDPStrategy.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        *,
        checkpoints: str = 'whole',
        param_dtype: str | None = None,
        reduce_dtype: str | None = None,
        reshard_after_forward: bool = True,
        checkpoint_every: int | None = None,
        model_wrapper: dict | None = None,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)  # model_wrapper is DDP's
        if checkpoints not in CHECKPOINTS:
            raise ValueError(f'checkpoints={checkpoints!r} must be {" or ".join(CHECKPOINTS)}')
        if checkpoint_every is not None and checkpoint_every < 1:
            raise ValueError(f'checkpoint_every={checkpoint_every} must be at least 1, or None')
        self.checkpoints, self.checkpoint_every = checkpoints, checkpoint_every
        self.settings = dict(reshard_after_forward=reshard_after_forward)
        if param_dtype or reduce_dtype:
            dtypes = dict(param_dtype=param_dtype, reduce_dtype=reduce_dtype or 'float32')
            dtypes = {k: getattr(torch, v) for k, v in dtypes.items() if v}
            # targets are computed from the input, which stays as it is
            self.settings['mp_policy'] = MixedPrecisionPolicy(**dtypes, cast_forward_inputs=False)

    def _wrap_model(self, model: nn.Module) -> nn.Module:
        for value in model.state_dict().values():
            broadcast(value)
        if self.checkpoint_every is not None:
            forget_activations(blocks_of(model)[:: self.checkpoint_every])
        return shard_blocks(model, **self.settings)

    def build_optim_wrapper(self, optim_wrapper, model: nn.Module) -> BaseOptimWrapper:
        """Build the optimizer wrapper; gradients are clipped by the norm of the whole gradient."""
        built = super().build_optim_wrapper(optim_wrapper, model)
        if getattr(built, 'clip_func', None) is torch.nn.utils.clip_grad_norm_:

            def clip_whole(parameters: list[nn.Parameter], **settings) -> Tensor:
                return whole(torch.nn.utils.clip_grad_norm_(parameters, **settings))

            built.clip_func = clip_whole
        return built

    def model_state_dict(self) -> dict:
        """Weights by the names that they have without FSDP: whole ones in the first process.

        Those of a sharded checkpoint stay divided.
        """
        state = self.model.state_dict()
        if self.checkpoints == 'sharded':
            return state
        metadata = getattr(state, '_metadata', None)
        state = to_first_process(state)
        if metadata is not None:
            state._metadata = metadata
        return state

    def load_model_state_dict(self, state_dict: dict, **settings) -> None:
        """Load whole weights, of which each process keeps its part, or divided ones."""
        own = self.model.state_dict()
        divided = {k: divide(v, own[k]) if k in own else v for k, v in state_dict.items()}
        super().load_model_state_dict(divided, **settings)

    def optim_state_dict(self) -> dict:
        """The optimizer's state in the form that it has under DDP."""
        state = self.optim_wrapper.state_dict()
        return state if self.checkpoints == 'sharded' else to_first_process(state)

    def load_optim_state_dict(self, state_dict: dict) -> None:
        """Load a state as DDP or FSDP 1 has it, of which each process keeps its part."""
        parameters = self._parameters()
        if any(isinstance(key, str) for key in state_dict['state']):
            state_dict = self._number(state_dict, parameters)
        state = {
            index: {name: divide(value, parameters[index]) for name, value in entries.items()}
            for index, entries in state_dict['state'].items()
        }
        self.optim_wrapper.load_state_dict(state_dict | dict(state=state))

    def save_checkpoint(
        self,
        filename: str,
        *,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        extra_ckpt: dict | None = None,
        callback: Callable | None = None,
    ) -> None:
        """Save a whole checkpoint, or a folder with a part of each process; all must call it."""
        from mmengine.runner.checkpoint import save_checkpoint  # the one of this moment

        saved = dict(state_dict=self.model_state_dict())
        if save_optimizer and hasattr(self, 'optim_wrapper'):
            saved['optimizer'] = self.optim_state_dict()
        if save_param_scheduler and hasattr(self, 'param_schedulers'):
            saved['param_schedulers'] = self.scheduler_state_dict()
        extra = dict(extra_ckpt or {})
        now = time.strftime('%Y%m%d_%H%M%S', time.localtime())
        extra['meta'] = (extra.get('meta') or {}) | dict(seed=self.seed, time=now)
        saved |= extra
        if callback is not None:
            callback(saved)
        if self.checkpoints == 'sharded':
            save_parts(filename, saved)
        elif is_main_process():
            save_checkpoint(saved, filename)

    def load_checkpoint(
        self, filename: str, *, callback: Callable | None = None, **settings
    ) -> dict:
        """Load a whole or a sharded checkpoint; see mmengine's SingleDeviceStrategy."""
        if not Path(filename).is_dir():
            return super().load_checkpoint(filename, callback=callback, **settings)
        self.logger.info(f'Load checkpoint from {filename}')
        parameters = self._parameters() if hasattr(self, 'optim_wrapper') else []
        loaded = load_parts(filename, self.model.state_dict(), parameters)
        if callback is not None:
            callback(loaded)
        self.load_model_state_dict(loaded.pop('state_dict'))
        return loaded

    def _number(self, state_dict: dict, parameters: list[nn.Parameter]) -> dict:
        """Number a state whose parameters go by their names, as FSDP 1 has it."""
        names = {parameter: name for name, parameter in self.model.named_parameters()}
        places = {names[parameter]: index for index, parameter in enumerate(parameters)}
        groups = [
            group | dict(params=[places[name] for name in group['params']])
            for group in state_dict['param_groups']
        ]
        state = {places[name]: entries for name, entries in state_dict['state'].items()}
        return state_dict | dict(state=state, param_groups=groups)

    def _parameters(self) -> list[nn.Parameter]:
        """Parameters in the order of the optimizer's state."""
        groups = self.optim_wrapper.optimizer.param_groups
        return [parameter for group in groups for parameter in group['params']]


def blocks_of(model: nn.Module) -> list[TransformerBlock]:
    """Return the Transformer blocks of encoders and decoders, shared ones once."""
    return [module for module in model.modules() if isinstance(module, TransformerBlock)]


def shard_blocks(model: nn.Module, **settings) -> nn.Module:
    """Divide a model among all processes, in place: each Transformer block, and the rest of it.

    Args:
        model: On any device.
        **settings: Of torch's ``fully_shard``.
    """
    mesh = init_device_mesh(get_device(), (torch.distributed.get_world_size(),))
    for block in blocks_of(model):
        fully_shard(block, mesh=mesh, **settings)
    return fully_shard(model, mesh=mesh, **settings)


def forget_activations(modules: Sequence[nn.Module]) -> None:
    """Let modules compute their activations anew in the backward pass; names stay as they are."""
    for module in modules:
        module.forward = partial(_forget, module.forward)


def _forget(forward: Callable, *args, **kwargs) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, **draws.checkpoint_settings(), **kwargs)
