"""Compile a model, or its Transformer blocks, with torch.compile."""

from collections.abc import Iterable

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn

from ...models.layers import TransformerBlock
from ...utils.wrappers import unwrap_model

PARTS = ('blocks', 'branches')
RECOMPILE_LIMIT = 256


@HOOKS.register_module()
class CompileHook(Hook):
    """Compile the Transformer blocks, or whole encoders and decoders, in place before training.

    Blocks of one kind and input shape share the compiled code, so that it is made once for each of
    encoder and decoders. Names in checkpoints stay as they are. For any model with blocks of this
    toolkit, also when it is finetuned. On a CPU it gains nothing (docs/speed.md).

    With ``mode='reduce-overhead'`` what is compiled is recorded as CUDA graphs: for small batches
    on fast GPUs, which otherwise wait for the next kernel to be launched. The shapes of batches
    must not change then.

    Args:
        part: 'blocks', or 'branches' for the encoder and the decoders of each branch as a whole,
            for pretrainers.
        **options: Arguments of ``torch.compile``. By default ``dynamic=False``, since shapes do not
            change during pretraining, and for blocks ``fullgraph=True``, so that one that cannot be
            compiled as a whole is an error.

    Raises:
        ValueError: For another part.
    """

    priority = 'VERY_HIGH'

    def __init__(self, part: str = 'blocks', **options) -> None:
        if part not in PARTS:
            raise ValueError(f'part={part!r} must be one of {", ".join(PARTS)}')
        self.part = part
        self.options = dict(dynamic=False, fullgraph=part == 'blocks') | options
        self._with_graphs = options.get('mode') in ('reduce-overhead', 'max-autotune')

    def before_train(self, runner: Runner) -> None:
        """Compile.

        Raises:
            ValueError: The model has no such part.
        """
        model = unwrap_model(runner.model)
        modules = modules_of(model, self.part)
        if not modules:
            needs = 'TransformerBlock in the model; it is for models with a BimmViT'
            needs = needs if self.part == 'blocks' else 'branches; they are what pretrainers have'
            raise ValueError(f"CompileHook found no {needs}, or take mmengine's own compile=True")
        compile_modules(modules, **self.options)
        runner.logger.info(f'{self.part}: {len(modules)} modules are compiled')

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Let CUDA graphs use the memory of the iteration before."""
        if self._with_graphs:
            torch.compiler.cudagraph_mark_step_begin()


def modules_of(model: nn.Module, part: str) -> list[nn.Module]:
    """Return the Transformer blocks of a model, or its branches' encoders and necks.

    Args:
        model: For its branches not wrapped.
        part: One of ``PARTS``.
    """
    if part == 'blocks':
        return [module for module in model.modules() if isinstance(module, TransformerBlock)]
    branches = getattr(model, 'branches', {}).values()
    return [module for branch in branches for module in (branch.backbone, branch.neck)]


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
