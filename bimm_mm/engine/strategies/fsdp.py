"""FSDP for models whose branches share blocks."""

import warnings

import torch
from mmengine._strategy import FSDPStrategy
from mmengine.device import get_device
from mmengine.dist import broadcast
from mmengine.optim import BaseOptimWrapper
from mmengine.registry import FUNCTIONS, STRATEGIES
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel

from ...models.layers import TransformerBlock

SHARDED = ('state', 'param_groups')  # of an optimizer's state dict, what FSDP divides


@FUNCTIONS.register_module()
def wrap_unshared_blocks(module: nn.Module, recurse: bool, nonwrapped_numel: int) -> bool:
    """Wrap each Transformer block that is not shared: an ``auto_wrap_policy`` of FSDP.

    FSDP replaces a block by a wrapped one in its first parent only, so that the other branch would
    be left with a shard of the weights. Shared blocks therefore belong to the outermost unit, which
    FSDP asks of all shared parameters: their weights are gathered once per step, while their
    gradients and the optimizer's state are sharded as all others.

    Args:
        module: The module in question.
        recurse: Whether FSDP asks about the children of ``module``, or about itself.
        nonwrapped_numel: Not used, the size does not matter.

    Returns:
        Whether to look at the children, or to wrap.
    """
    return recurse or (isinstance(module, TransformerBlock) and not module.is_shared)


@STRATEGIES.register_module()
class SharedBlocksFSDPStrategy(FSDPStrategy):
    """FSDPStrategy (FSDP 1) for models with shared blocks; FullyShardStrategy takes its place.

    As one line of a config::

        strategy = dict(type='SharedBlocksFSDPStrategy')

    It differs from mmengine's 0.10.7 in this (our choice):

    - units are those of :func:`wrap_unshared_blocks`, and parameters keep their names and shapes
      (``use_orig_params=True``), so that biases, norms, tokens and layers get the weight decay and
      the learning rate that they have under DDP;
    - all processes start from the weights of the first one. Each has a random seed of its own, and
      mmengine would put the model together from shards of different draws;
    - ``optim_wrapper.clip_grad`` clips by the norm of the whole gradient; mmengine's clips in each
      process by the norm of its shard;
    - checkpoints are whole, hold the loss scale, and fit into a model without FSDP;
    - it runs on processes without an accelerator, too;
    - ``mixed_precision`` leaves the input as it is: targets are computed from it.

    Args:
        model_wrapper: Arguments of MMFullyShardedDataParallel, as
            ``dict(mixed_precision=dict(param_dtype='bfloat16', reduce_dtype='float32'))``, which
            needs ``--amp``: tokens are float32 otherwise, and weights are not.
        **kwargs: As FSDPStrategy.
    """

    def __init__(self, *, model_wrapper: dict | None = None, **kwargs) -> None:
        warnings.warn(
            'SharedBlocksFSDPStrategy (FSDP 1) goes with the next release: set '
            "strategy.type='FullyShardStrategy', which reads its checkpoints",
            FutureWarning,
            stacklevel=2,
        )
        wrapper = dict(
            type='MMFullyShardedDataParallel',
            auto_wrap_policy='wrap_unshared_blocks',
            use_orig_params=True,
        ) | (model_wrapper or {})
        if isinstance(wrapper.get('mixed_precision'), dict):
            keep_input = dict(cast_root_forward_inputs=False)
            wrapper['mixed_precision'] = keep_input | wrapper['mixed_precision']
        state_dict_cfg = 'full'
        if get_device() == 'cpu':
            wrapper.pop('device_ids', None)  # of DDP, put in by engine.runner.init_cpu_launcher
            wrapper['device_id'] = torch.device('cpu')
            state_dict_cfg = dict(  # 'full' would offload from the CPU to the CPU, and crash
                state_dict_type='FULL_STATE_DICT',
                state_dict_config=dict(type='FullStateDictConfig', rank0_only=True),
                optim_state_dict_config=dict(type='FullOptimStateDictConfig', rank0_only=True),
            )
        super().__init__(model_wrapper=wrapper, **(dict(state_dict_cfg=state_dict_cfg) | kwargs))

    def _wrap_model(self, model: nn.Module) -> nn.Module:
        for value in model.state_dict().values():
            broadcast(value)
        return super()._wrap_model(model)

    def build_optim_wrapper(self, optim_wrapper, model: nn.Module) -> BaseOptimWrapper:
        """Build the optimizer wrapper; gradients are clipped by the norm of the whole gradient."""
        built = super().build_optim_wrapper(optim_wrapper, model)
        if getattr(built, 'clip_func', None) is torch.nn.utils.clip_grad_norm_:

            def clip_whole(parameters: list[nn.Parameter], **settings) -> Tensor:
                return model.clip_grad_norm_(**settings)

            built.clip_func = clip_whole
        return built

    def optim_state_dict(self) -> dict:
        """Return the optimizer's whole state on the first process, an empty one on the others.

        With it what the wrapper keeps beside it, which mmengine's leaves out: the loss scale of
        float16, and the learning rate for the log.

        torch 2.11 gathers all entries of the state into one buffer and relies on the copy to the
        CPU to keep them apart. Where it is there already, they are gathered one by one.
        """
        others = {k: v for k, v in self.optim_wrapper.state_dict().items() if k not in SHARDED}
        return self._gathered_state() | others

    def load_optim_state_dict(self, state_dict: dict) -> None:
        """Load the optimizer's state, and what its wrapper keeps beside it."""
        super().load_optim_state_dict({k: v for k, v in state_dict.items() if k in SHARDED})
        if 'loss_scaler' in state_dict:
            self.optim_wrapper.loss_scaler.load_state_dict(state_dict['loss_scaler'])
        if 'base_param_settings' in state_dict:
            self.optim_wrapper.base_param_settings = state_dict['base_param_settings']

    def _gathered_state(self) -> dict:
        if get_device() != 'cpu' or not self._is_full_state_dict():
            return super().optim_state_dict()
        optimizer = self.optim_wrapper.optimizer
        sharded, gathered = optimizer.state_dict(), {}
        for name in sorted({name for entries in sharded['state'].values() for name in entries}):
            part = {i: {name: entries[name]} for i, entries in sharded['state'].items()}
            whole = FullyShardedDataParallel.optim_state_dict(
                self.model, optimizer, optim_state_dict=sharded | dict(state=part)
            )
            for parameter, entries in whole.get('state', {}).items():
                gathered.setdefault(parameter, {})[name] = entries[name].clone()
        return dict(whole, state=gathered)
