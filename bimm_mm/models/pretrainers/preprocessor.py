"""From the uint8 samples of the workers to a normalised batch on the device."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor
from mmengine.registry import MODELS
from torch import Tensor

from ..targets.base import IMAGENET_MEAN, IMAGENET_STD


@MODELS.register_module()
class ClipDataPreprocessor(BaseDataPreprocessor):
    """Stack images or clips, move them to the device as uint8, and normalise them there.

    Args:
        mean (Sequence[float]): of the channels R, G, B, on the scale 0 to 255 (ImageNet's).
        std (Sequence[float]): likewise.
        bgr_to_rgb (bool): whether the samples come as BGR, as OpenCV reads them.
    """

    def __init__(
        self,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        bgr_to_rgb: bool = False,
        non_blocking: bool = True,
    ) -> None:
        super().__init__(non_blocking=non_blocking)
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError(f'mean={mean} and std={std} must be three numbers each, std positive')
        self.bgr_to_rgb = bgr_to_rgb
        self.register_buffer('mean', torch.tensor(mean, dtype=torch.float32), persistent=False)
        self.register_buffer('std', torch.tensor(std, dtype=torch.float32), persistent=False)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Make a batch.

        Args:
            data (dict): ``inputs``, a list of (3, H, W) images or (3, T, H, W) clips, of
                mmaction2's (R, 3, T, H, W), which count as R samples, or an already stacked
                tensor of these, all with a fourth channel where the sample has contours; other
                entries are moved to the device.

        Returns:
            dict: ``inputs`` float32, (B, 3, H, W) or (B, 3, T, H, W), and the other entries. A
            fourth channel is there if it was before, in [0, 1].
        """
        data = self.cast_data(data)
        inputs = data['inputs']
        if not isinstance(inputs, Tensor):
            shapes = {tuple(x.shape) for x in inputs}
            if len(shapes) > 1:
                raise ValueError(
                    f'inputs have different shapes, {sorted(shapes)}: the pipeline must crop or '
                    'resize all samples to one size and number of frames'
                )
            # on the device: on the host it would leave pinned memory, and be waited for
            inputs = torch.stack(list(inputs))
        return data | dict(inputs=self.normalise(inputs))

    def normalise(self, x: Tensor) -> Tensor:
        """uint8 (or 0 to 255) input to zero mean and unit variance, contours to [0, 1]; float32."""
        if x.dim() == 6:
            x = x.flatten(0, 1)
        if x.dim() not in (4, 5) or x.shape[1] not in (3, 4):
            raise ValueError(
                f'inputs of shape {tuple(x.shape)} must be (B, 3, H, W) images or '
                '(B, 3, T, H, W) clips, or the same with contours as a fourth channel'
            )
        if self.bgr_to_rgb:
            x = torch.cat([x[:, :3].flip(1), x[:, 3:]], dim=1)
        more = (0, x.shape[1] - 3)  # contours, if there are any
        mean, std = F.pad(self.mean, more, value=0.0), F.pad(self.std, more, value=255.0)
        shape = (len(mean), *(1,) * (x.dim() - 2))
        return (x.float() - mean.view(shape)).div_(std.view(shape))
