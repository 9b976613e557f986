"""From samples of codes to a batch on the device."""

import torch
from mmengine.model import BaseDataPreprocessor
from mmengine.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class CodeDataPreprocessor(BaseDataPreprocessor):
    """Stack clips of codes, and move them to the device.

    Args:
        flatten: Whether the R clips of a sample count as R samples; mmaction2's recognizers count
            them themselves.
        non_blocking: Whether the host goes on while codes are moved.
    """

    def __init__(self, flatten: bool = True, non_blocking: bool = True) -> None:
        super().__init__(non_blocking=non_blocking)
        self.flatten = flatten

    def forward(self, data: dict, training: bool = False) -> dict:
        """Make a batch.

        Args:
            data: ``inputs``, a list of (R, T, H', W') clips of codes, or an already stacked
                tensor; other entries are moved to the device.
            training: Without effect.

        Returns:
            ``inputs`` (B * R, T, H', W') or, without ``flatten``, (B, R, T, H', W'), long; and
            the other entries.

        Raises:
            ValueError: If samples have different shapes, or are not codes.
        """
        data = self.cast_data(data)
        inputs = data['inputs']
        if not isinstance(inputs, Tensor):
            shapes = {tuple(x.shape) for x in inputs}
            if len(shapes) > 1:
                raise ValueError(f'codes have different shapes, {sorted(shapes)}')
            inputs = torch.stack(list(inputs))
        if inputs.is_floating_point() or inputs.dim() not in (4, 5):
            raise ValueError(
                f'inputs of shape {tuple(inputs.shape)}, {inputs.dtype}, must be codes, integers '
                "(B, T, H', W') or (B, R, T, H', W')"
            )
        if self.flatten and inputs.dim() == 5:
            inputs = inputs.flatten(0, 1)
        return data | dict(inputs=inputs.long())
