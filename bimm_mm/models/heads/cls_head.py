"""Linear classification head on one feature per clip."""

from mmaction.models.heads import TimeSformerHead
from mmengine.registry import MODELS
from torch import Tensor, nn

from .features import last_feature


@MODELS.register_module()
class BimmClsHead(TimeSformerHead):
    """Dropout and a linear layer on one feature per clip: class token or mean of the tokens.

    Args:
        num_classes: Number of classes.
        in_channels: C of the feature.
        batch_norm: Normalize the feature over the batch, without weights, as MAE's linear
            probe does: frozen features of different encoders then have the same scale.
        **kwargs: Of mmaction2's heads: ``dropout_ratio``, ``label_smooth_eps``,
            ``average_clips``, ``loss_cls``, and ``init_std``; with 0 the linear layer starts as
            zero (VIMPAC).
    """

    def __init__(
        self, num_classes: int, in_channels: int, batch_norm: bool = False, **kwargs
    ) -> None:
        super().__init__(num_classes, in_channels, **kwargs)
        self.norm = (
            nn.BatchNorm1d(in_channels, eps=1e-6, affine=False) if batch_norm else nn.Identity()
        )

    def init_weights(self) -> None:
        """Initialize the linear layer: normal with ``init_std``, or zero."""
        if self.init_std:
            super().init_weights()
        else:
            nn.init.zeros_(self.fc_cls.weight)
            nn.init.zeros_(self.fc_cls.bias)

    def forward(self, feats: tuple[Tensor, ...], **kwargs) -> Tensor:
        """Features, the last one (B, C), to scores (B, num_classes) float32."""
        return (
            super()
            .forward(self.norm(last_feature(feats, 2, "'cls_token' or 'avg_featmap'")))
            .float()
        )
