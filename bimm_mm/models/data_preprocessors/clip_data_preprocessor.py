"""From the uint8 samples of the workers to a normalized batch on the device."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.model import BaseDataPreprocessor
from mmengine.registry import MODELS
from torch import Tensor

from ..targets.base import IMAGENET_MEAN, IMAGENET_STD

# fields of data samples that go on to the model wherever the pipeline has put them there
USUAL = ('caption', 'codes', 'motion_vectors')


@MODELS.register_module()
class ClipDataPreprocessor(BaseDataPreprocessor):
    """Stack images or clips, move them to the device as uint8, and normalize them there.

    Side inputs get names of their own here, and travel by these names from here on: contours, which
    come as a fourth channel so that one crop serves all, the number of clips per video, captions,
    codes and motion vectors where the samples have them, and whatever ``side_inputs`` names.

    Args:
        mean: Of the channels R, G, B, on the scale 0 to 255 (ImageNet's).
        std: Standard deviation of the channels, on the same scale.
        bgr_to_rgb: Whether the samples come as BGR, as OpenCV reads them.
        side_inputs: Further fields of the data samples that the model is to get. Tensors and arrays
            are stacked and moved to the device, anything else becomes a list with an entry per
            image or clip. A sample that lacks one is an error.
    """

    def __init__(
        self,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        bgr_to_rgb: bool = False,
        side_inputs: Sequence[str] = (),
        non_blocking: bool = True,
    ) -> None:
        super().__init__(non_blocking=non_blocking)
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError(f'mean={mean} and std={std} must be three numbers each, std positive')
        self.bgr_to_rgb = bgr_to_rgb
        self.side_inputs = tuple(side_inputs)
        self.register_buffer('mean', torch.tensor(mean, dtype=torch.float32), persistent=False)
        self.register_buffer('std', torch.tensor(std, dtype=torch.float32), persistent=False)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Make a batch.

        Args:
            data: ``inputs``, a list of (3, H, W) images or (3, T, H, W) clips, of mmaction2's
                (R, 3, T, H, W), which count as R samples, or an already stacked tensor of these,
                all with a fourth channel where the sample has contours; other entries are moved
                to the device.

        Returns:
            ``inputs`` float32, (B, 3, H, W) or (B, 3, T, H, W), the other entries, and the side
            inputs that there are: ``contours`` (B, 1, ...) in [0, 1], ``views``, the R where
            samples have several clips, and those of ``side_inputs``.
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
        side, views = {}, 1
        if inputs.dim() == 6:
            side['views'] = views = inputs.shape[1]
            inputs = inputs.flatten(0, 1)
        inputs, contours = self.split_contours(inputs)
        if contours is not None:
            side['contours'] = contours
        samples = data.get('data_samples') or ()
        first = samples[0] if samples else None
        usual = [name for name in USUAL if first is not None and name in first]
        for name in dict.fromkeys([*usual, *self.side_inputs]):
            side[name] = self.collect(name, samples, views)
        return data | dict(inputs=self.normalize(inputs), **side)

    def split_contours(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Split (B, 3 or 4, ...) into colors (B, 3, ...) and contours (B, 1, ...) in [0, 1]."""
        if x.dim() not in (4, 5) or x.shape[1] not in (3, 4):
            raise ValueError(
                f'inputs of shape {tuple(x.shape)} must be (B, 3, H, W) images or '
                '(B, 3, T, H, W) clips, or the same with contours as a fourth channel'
            )
        return x[:, :3], x[:, 3:].float().div_(255) if x.shape[1] == 4 else None

    def normalize(self, x: Tensor) -> Tensor:
        """uint8 (or 0 to 255) colors (B, 3, ...) to zero mean and unit variance; float32."""
        if self.bgr_to_rgb:
            x = x.flip(1)
        shape = (3, *(1,) * (x.dim() - 2))
        return (x.float() - self.mean.view(shape)).div_(self.std.view(shape))

    def collect(self, name: str, samples: Sequence, views: int) -> Any:
        """Collect a field of the data samples, one entry for each of their clips.

        A list where some samples have None, as those whose codes are to be made online.

        Raises:
            ValueError: A sample lacks the field.
        """
        missing = [sample for sample in samples if name not in sample]
        if missing or not samples:
            raise ValueError(
                f"side_inputs: {len(missing)} of {len(samples)} data samples have no '{name}'; let "
                'the pipeline put it there (meta_keys of PackActionInputs)'
            )
        values = [sample.get(name) for sample in samples]
        if any(has_gaps(value) for value in values):
            return self.collect_some(values, views)
        if not isinstance(values[0], Tensor | np.ndarray):
            return [value for value in values for _ in range(views)]
        values = [torch.as_tensor(value) for value in values]
        stacked = torch.stack(values).to(self.mean.device, non_blocking=self._non_blocking)
        # (B, R, ...) where each clip has its own, as the clips have them
        own = views > 1 and stacked.dim() > 1 and stacked.shape[1] == views
        return stacked.flatten(0, 1) if own else stacked.repeat_interleave(views, dim=0)

    def collect_some(self, values: Sequence, views: int) -> list:
        """As :meth:`collect`, of values that some samples, or some of their clips, do not have."""
        result = []
        for value in values:
            own = views > 1 and isinstance(value, list | Tensor | np.ndarray)
            for clip in value if own and len(value) == views else [value] * views:
                if isinstance(clip, Tensor | np.ndarray):
                    clip = torch.as_tensor(clip)
                    clip = clip.to(self.mean.device, non_blocking=self._non_blocking)
                result.append(clip)
        return result


def has_gaps(value: object) -> bool:
    """Whether a field is None, or has a None among its clips."""
    return value is None or isinstance(value, list) and any(clip is None for clip in value)
