"""Turn a run into one with mixed precision."""

import warnings

import torch
from mmengine.config import Config
from mmengine.device import get_device

from ...config.check import ConfigError
from .cpu_amp import cpu_has_bfloat16


def set_amp(cfg: Config, dtype: str | None) -> None:
    """Turn the optimizer wrapper into one with mixed precision.

    Args:
        cfg: Changed in place.
        dtype: 'bfloat16', 'float16', or None for bfloat16 where the device computes in it.

    Raises:
        ConfigError: The device has no such type, or the strategy has a setting of its own for it.
    """
    strategy = (cfg.get('strategy') or {}).get('type', '')
    if strategy == 'DeepSpeedStrategy':
        raise ConfigError(
            "--amp: DeepSpeed's is set by strategy.bf16 or strategy.fp16 in the config"
        )
    if get_device() == 'cpu':
        if dtype == 'float16':
            raise ConfigError('--amp-dtype float16 needs an accelerator; none was found')
        if cpu_has_bfloat16():
            cfg.optim_wrapper.update(type='CpuAmpOptimWrapper', dtype='bfloat16')
        else:
            warnings.warn(
                '--amp: neither an accelerator nor a CPU with bfloat16 was found; the '
                'run goes on in float32',
                stacklevel=2,
            )
        return
    if dtype is None:
        on_cuda = torch.cuda.is_available()
        with_bfloat16 = not on_cuda or torch.cuda.is_bf16_supported(including_emulation=False)
        dtype = 'bfloat16' if with_bfloat16 else 'float16'
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    cfg.optim_wrapper.dtype = dtype
    # bfloat16 has the range of float32: small gradients do not vanish, so no loss scale is needed
    scale = 'dynamic' if dtype == 'float16' else dict(enabled=False)
    cfg.optim_wrapper.setdefault('loss_scale', scale)
    if strategy.endswith('FSDPStrategy'):
        cfg.optim_wrapper.use_fsdp = True
