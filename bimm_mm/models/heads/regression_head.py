"""Regression head: numbers instead of classes."""

import torch
import torch.nn.functional as F
from mmaction.models.heads import BaseHead
from mmengine.registry import MODELS
from torch import Tensor, nn

from .features import last_feature


@MODELS.register_module()
class RegressionHead(BaseHead):
    """Predicts numbers instead of classes: ratings, angles, heart rates.

    The labels are floating-point tensors (num_outputs,), as ``VideoRegressionDataset`` gives
    them; the loss is the smooth L1 loss ``loss_reg``. Scale labels to a standard deviation of about
    one.

    Args:
        num_outputs: Numbers per clip.
        in_channels: C of the feature.
    """

    def __init__(self, num_outputs: int, in_channels: int) -> None:
        super().__init__(num_outputs, in_channels)
        self.fc_reg = nn.Linear(in_channels, num_outputs)

    def init_weights(self) -> None:
        """Small random weights, no bias."""
        nn.init.trunc_normal_(self.fc_reg.weight, std=0.02)
        nn.init.zeros_(self.fc_reg.bias)

    def forward(self, feats: tuple[Tensor, ...], **kwargs) -> Tensor:
        """Features, the last one (B, C), to numbers (B, num_outputs) float32."""
        return self.fc_reg(last_feature(feats, 2, "'cls_token' or 'avg_featmap'")).float()

    def loss_by_feat(self, predictions: Tensor, data_samples: list) -> dict[str, Tensor]:
        """Smooth L1 loss against the samples' ``gt_label``.

        Raises:
            ValueError: A label is of another length.
        """
        labels = torch.stack([sample.gt_label for sample in data_samples]).to(predictions)
        if labels.shape != predictions.shape:
            raise ValueError(
                f'num_outputs={self.num_classes}, but the labels have {labels.shape[-1]} numbers'
            )
        return dict(loss_reg=F.smooth_l1_loss(predictions, labels))

    def predict_by_feat(self, predictions: Tensor, data_samples: list) -> list:
        """Set ``pred_score`` of each sample to its prediction, averaged over its clips."""
        views = predictions.view(len(data_samples), -1, predictions.shape[-1])
        for sample, value in zip(data_samples, views.mean(dim=1), strict=True):
            sample.set_pred_score(value)
        return data_samples
