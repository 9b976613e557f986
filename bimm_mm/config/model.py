"""Wrong sizes in a model are found in seconds, without memory for its weights."""

from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn


def model_problems(cfg: Config) -> list[str]:
    """Why the model of a config cannot be built; empty if it can.

    Widths that heads do not divide, stages beyond the last block, patches that do not fit the image
    and the like: whatever the model's parts check when they are built. The parts must have been
    found before.
    """
    model = cfg.model.copy()
    try:
        with (
            DefaultScope.overwrite_default_scope(cfg.get('default_scope') or 'mmengine'),
            without_weights(),
        ):
            MODELS.build(model)
    except (ValueError, TypeError, KeyError, AssertionError) as error:
        return [f'model: {error}']
    except Exception:  # what needs real weights is found when they are there
        return []
    return []


@contextmanager
def without_weights() -> Iterator[None]:
    """Parameters that modules register are on torch's meta device, where nothing is computed."""
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
