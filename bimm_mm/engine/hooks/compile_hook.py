"""Compile the Transformer blocks of a model with torch.compile."""

from collections.abc import Iterable

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn

from ...models.layers import TransformerBlock

RECOMPILE_LIMIT = 256


@HOOKS.register_module()
class CompileHook(Hook):
    """Compile every Transformer block before training starts, in place.

    Blocks of one kind and input shape share the compiled code, so that it is made once for each of
    encoder and decoders. Names in checkpoints stay as they are. For any model with blocks of this
    toolkit, also when it is finetuned. On a CPU it gains nothing (docs/speed.md).

    Args:
        **options: Arguments of ``torch.compile``. By default ``dynamic=False``, since shapes do not
            change during pretraining, and ``fullgraph=True``, so that a block that cannot be
            compiled as a whole is an error.
    """

    priority = 'VERY_HIGH'

    def __init__(self, **options) -> None:
        self.options = dict(dynamic=False, fullgraph=True) | options

    def before_train(self, runner: Runner) -> None:
        """Compile the blocks."""
        blocks = [m for m in runner.model.modules() if isinstance(m, TransformerBlock)]
        if not blocks:
            raise ValueError(
                'CompileHook found no TransformerBlock in the model; it is for models with a '
                "BimmViT, or take mmengine's own compile=True"
            )
        compile_modules(blocks, **self.options)
        runner.logger.info(f'{len(blocks)} Transformer blocks are compiled')


def compile_modules(modules: Iterable[nn.Module], **options) -> None:
    """Compile many modules of one class in place.

    These are one piece of code, of which torch keeps 8 versions: too few for all widths and shapes,
    and with drop path, where each block has a probability of its own.

    Args:
        modules: What to compile.
        **options: Arguments of ``torch.compile``.
    """
    config = torch._dynamo.config
    name = 'recompile_limit' if hasattr(config, 'recompile_limit') else 'cache_size_limit'  # 2.6
    setattr(config, name, max(getattr(config, name), RECOMPILE_LIMIT))
    for module in modules:
        module.compile(**options)
