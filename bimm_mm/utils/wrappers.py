"""The model inside of what distributes it."""

from mmengine.model import is_model_wrapper
from torch import nn


def unwrap_model(model: nn.Module) -> nn.Module:
    """Return the model inside DistributedDataParallel or another wrapper, or the model itself."""
    return model.module if is_model_wrapper(model) else model
