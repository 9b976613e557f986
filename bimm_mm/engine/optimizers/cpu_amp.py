"""Mixed precision on a CPU, which mmengine's AmpOptimWrapper refuses."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn

CPUINFO = Path('/proc/cpuinfo')
BFLOAT16_FLAGS = {'avx512_bf16', 'amx_bf16', 'bf16'}  # Intel and AMD, Intel, ARM


@OPTIM_WRAPPERS.register_module()
class CpuAmpOptimWrapper(OptimWrapper):
    """mmengine's OptimWrapper with bfloat16 autocast on the CPU.

    ``--amp`` takes it where there is no accelerator. No loss is scaled: bfloat16 has the range of
    float32.

    Args:
        dtype: ``'bfloat16'``.
        **kwargs: As of OptimWrapper.

    Raises:
        ValueError: For another dtype.
    """

    def __init__(self, dtype: str = 'bfloat16', **kwargs) -> None:
        super().__init__(**kwargs)
        if dtype != 'bfloat16':
            raise ValueError(f'dtype={dtype!r} must be bfloat16 on a CPU')

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Forward passes within it compute in bfloat16 where autocast does."""
        with super().optim_context(model), torch.autocast('cpu', torch.bfloat16):
            yield


def cpu_has_bfloat16() -> bool:
    """Whether the CPU computes in bfloat16, and does not only imitate it.

    Known on Linux alone; elsewhere False.
    """
    if not CPUINFO.is_file():
        return False
    lines = CPUINFO.read_text().lower().splitlines()
    flags = (line.partition(':')[2].split() for line in lines if line.startswith(('flags', 'feat')))
    return any(BFLOAT16_FLAGS & set(line) for line in flags)
