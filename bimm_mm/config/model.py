"""Build a config's model without memory for its weights, and check its sizes."""

from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from .agreement import clip_problems, width_problems


def build_without_memory(cfg: Config) -> nn.Module:
    """Build the model of a config on torch's meta device, where tensors have no values.

    Raises:
        Exception: Whatever the parts of the model raise when they are built.
    """
    with (
        DefaultScope.overwrite_default_scope(cfg.get('default_scope') or 'mmengine'),
        _without_weights(),
    ):
        return MODELS.build(cfg.model.copy()).to('meta')


def model_problems(cfg: Config) -> list[str]:
    """Return why the model of a config cannot be built or trained; empty if it can.

    Widths that heads do not divide, stages beyond the last block, patches that do not fit the image
    and the like: whatever the model's parts check when they are built; and a head of another width
    than the encoder, and clips of another size than a pretraining needs. The parts must have been
    found before.
    """
    try:
        model = build_without_memory(cfg)
        return [*width_problems(cfg, model), *clip_problems(cfg, model)]
    except (ValueError, TypeError, KeyError, AssertionError) as error:
        return [f'model: {error}']
    except Exception:  # what needs real weights is found when they are there
        return []


@contextmanager
def _without_weights() -> Iterator[None]:
    """Register parameters on the meta device.

    ``torch.device('meta')`` would put everything there, also what parts compute from and read
    while they are built, such as the statistics of a preprocessor.
    """
    register = nn.Module.register_parameter

    def register_on_meta(module: nn.Module, name: str, value: nn.Parameter | None) -> None:
        if value is not None:
            value = nn.Parameter(value.data.to('meta'), requires_grad=value.requires_grad)
        register(module, name, value)

    nn.Module.register_parameter = register_on_meta
    try:
        yield
    finally:
        nn.Module.register_parameter = register
