"""Feature maps of several strides from the last one of a plain Vision Transformer."""

import math
from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module('LN2d')
class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of every position of a feature map (B, C, H, W).

    The name ``LN2d`` is mmpretrain's; registered in the root, ``norm_cfg=dict(type='LN2d')`` works
    in the heads of every library.

    Args:
        num_channels: C.
        eps: Added to the variance.
    """

    def __init__(self, num_channels: int, eps: float = 1e-6) -> None:
        super().__init__(num_channels, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        x = x.permute(0, 2, 3, 1)
        x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        # mmcv's RoIAlign takes the memory to be (B, C, H, W), whatever the strides say
        return x.permute(0, 3, 1, 2).contiguous()


@MODELS.register_module()
class SimpleFeaturePyramid(BaseModule):
    """The neck of ViTDet (Li et al., *Exploring Plain Vision Transformer Backbones for Object
    Detection*, ECCV 2022, section 3): each level is made from the last feature map alone.

    Finer levels come from transposed convolutions of stride 2, each of which halves the channels
    (the first of two is followed by a norm and GELU), coarser ones from max pooling. Then each
    level has a 1 x 1 and a 3 x 3 convolution, both followed by a LayerNorm. A pool at the lower or
    right end may cover less than the others, so that a level of stride s has ceil(H / s) rows for
    an image of H pixels, as detectors expect.

    Args:
        in_channels: Channels C of the backbone's map; divisible by 4 for two upsamplings.
        out_channels: Channels of every level.
        strides: Pixels between positions of each level; ``patch_size`` times a
            power of two, 1/4 at the least.
        patch_size: Stride of the backbone's map.
        extra_levels: Further levels, each of which takes every second position of the one
            before; the RPN's stride 64 in ViTDet.

    Raises:
        ValueError: For a stride that cannot be reached or channels that cannot be halved.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 256,
        strides: Sequence[int] = (4, 8, 16, 32),
        patch_size: int = 16,
        extra_levels: int = 1,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.in_channels = in_channels
        self.extra_levels = extra_levels
        self.levels = nn.ModuleList()
        for stride in strides:
            octaves = math.log2(stride / patch_size) if stride > 0 else 0.5
            if octaves < -2 or not octaves.is_integer():
                raise ValueError(
                    f'strides={tuple(strides)}: {stride} is not a power of two times '
                    f'patch_size={patch_size}, from {patch_size // 4} up'
                )
            if octaves < 0 and in_channels % 2**-octaves:
                raise ValueError(
                    f'in_channels={in_channels} must be a multiple of {2**-octaves:.0f} for '
                    f'stride {stride}'
                )
            self.levels.append(self._level(in_channels, out_channels, int(octaves)))

    @staticmethod
    def _level(channels: int, out_channels: int, octaves: int) -> nn.Sequential:
        layers = []
        if octaves > 0:
            layers.append(nn.MaxPool2d(2**octaves, ceil_mode=True))
        for step in range(-octaves):
            if step:
                layers += [LayerNorm2d(channels), nn.GELU()]
            layers.append(nn.ConvTranspose2d(channels, channels // 2, 2, stride=2))
            channels //= 2
        return nn.Sequential(
            *layers,
            nn.Conv2d(channels, out_channels, 1, bias=False),
            LayerNorm2d(out_channels),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            LayerNorm2d(out_channels),
        )

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Make the pyramid.

        Args:
            inputs: Feature maps of a backbone, ``BimmViT(out_type='featmap')``;
                the last one, (B, C, H', W'), is read.

        Returns:
            (B, out_channels, ., .) for each stride and extra level; float32
            even under automatic mixed precision: mmcv's RoIAlign has no kernel for bfloat16.
        """
        x = inputs[-1]
        if x.dim() != 4 or x.shape[1] != self.in_channels:
            raise ValueError(
                f'the feature map has shape {tuple(x.shape)}, but in_channels={self.in_channels} '
                f"needs (B, {self.in_channels}, H', W'), as BimmViT(out_type='featmap') gives it "
                'for images'
            )
        outputs = [level(x).float() for level in self.levels]
        for _ in range(self.extra_levels):
            outputs.append(F.max_pool2d(outputs[-1], 1, stride=2))
        return tuple(outputs)
