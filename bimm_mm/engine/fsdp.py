"""Sharded data parallelism where two branches share blocks."""

from mmengine.registry import FUNCTIONS
from torch import nn

from ..models.layers import TransformerBlock


@FUNCTIONS.register_module()
def wrap_unshared_blocks(module: nn.Module, recurse: bool, nonwrapped_numel: int) -> bool:
    """An ``auto_wrap_policy`` of FSDP: each Transformer block is a unit, but for the shared ones.

    FSDP replaces a block by a wrapped one in its first parent only, so that the other branch would
    be left with a shard of the weights. Shared blocks therefore belong to the outermost unit, which
    FSDP asks of all shared parameters: their weights are gathered once per step, while their
    gradients and the optimizer's state are sharded as all others. In a config::

        strategy = dict(
            type='FSDPStrategy',
            model_wrapper=dict(
                type='MMFullyShardedDataParallel', auto_wrap_policy='wrap_unshared_blocks'
            ),
            state_dict_cfg='full',
        )

    Args:
        module (nn.Module): the module in question.
        recurse (bool): whether FSDP asks about the children of ``module``, or about itself.
        nonwrapped_numel (int): not used, the size does not matter.

    Returns:
        bool: whether to look at the children, or to wrap.
    """
    return recurse or (isinstance(module, TransformerBlock) and not module.is_shared)
