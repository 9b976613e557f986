"""TF32 for what is computed in float32."""

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

PRECISIONS = ('highest', 'high', 'medium')


@HOOKS.register_module()
class MatmulPrecisionHook(Hook):
    """Set how exactly float32 products are computed, as ``torch.set_float32_matmul_precision``.

    A run with ``--amp`` computes nearly all of its products in bfloat16 or float16, and hardly
    notices. One without may be several times as fast on NVIDIA GPUs since Ampere with ``'high'``,
    which takes TF32, of 10 bits instead of 23.

    Args:
        precision: ``'highest'`` for float32, torch's default; ``'high'``; or ``'medium'``.

    Raises:
        ValueError: For another precision.
    """

    def __init__(self, precision: str) -> None:
        if precision not in PRECISIONS:
            raise ValueError(f'precision={precision!r} must be one of {", ".join(PRECISIONS)}')
        self.precision = precision

    def before_run(self, runner: Runner) -> None:
        """Set it for this process."""
        torch.set_float32_matmul_precision(self.precision)
