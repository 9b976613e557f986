"""Keep the boxes of detectors in float32 under mixed precision."""

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn


@HOOKS.register_module()
class Float32HeadsHook(Hook):
    """Convert the predictions of an mmdet detector's heads to float32.

    mmdet makes anchors and boxes in the precision of the predictions. mmcv's NMS has no kernel for
    bfloat16, which is also too coarse for boxes: between 512 and 1024 its values are 4 pixels
    apart, those of float16 half a pixel. With float32 predictions, boxes, assignment, NMS and
    losses are float32, while the layers of the heads still compute in mixed precision. Without
    mixed precision nothing changes. Our choice.

    In a config, next to ``custom_imports = dict(imports=['bimm_mm.engine.float32_heads'])``::

        custom_hooks = [dict(type='Float32HeadsHook')]
    """

    def before_run(self, runner: Runner) -> None:
        """Find the heads: modules with ``loss_by_feat`` (dense) or ``loss_and_target`` (RoI)."""
        for module in runner.model.modules():
            if hasattr(module, 'loss_by_feat') or hasattr(module, 'loss_and_target'):
                module.register_forward_hook(_to_float32)


def _to_float32(module: nn.Module, inputs: tuple, output: object) -> object:
    if isinstance(output, torch.Tensor):
        return output.float() if output.is_floating_point() else output
    if isinstance(output, tuple | list):
        return type(output)(_to_float32(module, inputs, value) for value in output)
    return output
