"""Heads on :class:`BimmViT` for mmaction2's recognizers (which this module needs to be imported).

A head gets what the backbone returns, a tuple of which the last feature is read. It gives float32
under autocast, too: mmaction2 counts hits in numpy, which has no bfloat16.
"""

import torch
import torch.nn.functional as F
from mmaction.models.heads import BaseHead, TimeSformerHead
from mmengine.registry import MODELS
from torch import Tensor, nn

from .layers import init_transformer


@MODELS.register_module()
class BimmClsHead(TimeSformerHead):
    """Dropout and a linear layer on one feature per clip: class token or mean of the tokens.

    Args:
        num_classes (int): number of classes.
        in_channels (int): C of the feature.
        batch_norm (bool): normalise the feature over the batch, without weights, as MAE's linear
            probe does: frozen features of different encoders then have the same scale.
        **kwargs: of mmaction2's heads: ``dropout_ratio``, ``label_smooth_eps``,
            ``average_clips``, ``loss_cls``.
    """

    def __init__(
        self, num_classes: int, in_channels: int, batch_norm: bool = False, **kwargs
    ) -> None:
        super().__init__(num_classes, in_channels, **kwargs)
        self.norm = (
            nn.BatchNorm1d(in_channels, eps=1e-6, affine=False) if batch_norm else nn.Identity()
        )

    def forward(self, feats: tuple[Tensor, ...], **kwargs) -> Tensor:
        """Features, the last one (B, C), to scores (B, num_classes) float32."""
        return super().forward(self.norm(_last(feats, 2, "'cls_token' or 'avg_featmap'"))).float()


@MODELS.register_module()
class AttentiveHead(BaseHead):
    """Attentive probe: one learned query attends to all tokens, a linear layer classifies.

    A block of cross-attention with pre-norm and an MLP, as V-JEPA (Bardes et al., 2024) evaluates
    frozen video encoders. Reads ``out_type='raw'``, class token included.

    Args:
        num_classes (int): number of classes.
        in_channels (int): C of the tokens.
        num_heads (int): attention heads; divides C.
        mlp_ratio (float): hidden width of the MLP over C.
        **kwargs: of mmaction2's BaseHead.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        **kwargs,
    ) -> None:
        super().__init__(num_classes, in_channels, **kwargs)
        if in_channels % num_heads:
            raise ValueError(f'in_channels={in_channels} is no multiple of num_heads={num_heads}')
        self.num_heads = num_heads
        hidden = int(in_channels * mlp_ratio)
        self.query_token = nn.Parameter(torch.zeros(1, 1, in_channels))
        self.norm1 = nn.LayerNorm(in_channels, eps=1e-6)
        self.query = nn.Linear(in_channels, in_channels)
        self.key_value = nn.Linear(in_channels, 2 * in_channels)
        self.norm2 = nn.LayerNorm(in_channels, eps=1e-6)
        self.mlp = nn.Sequential(
            nn.Linear(in_channels, hidden), nn.GELU(), nn.Linear(hidden, in_channels)
        )
        self.fc_cls = nn.Linear(in_channels, num_classes)

    def init_weights(self) -> None:
        """As the encoder's; a small random query."""
        self.apply(init_transformer)
        nn.init.trunc_normal_(self.query_token, std=0.02)
        nn.init.trunc_normal_(self.fc_cls.weight, std=0.02)

    def forward(self, feats: tuple[Tensor, ...], **kwargs) -> Tensor:
        """Features, the last one (B, L, C), to scores (B, num_classes) float32."""
        tokens = self.norm1(_last(feats, 3, "'raw'"))
        query = self.query_token.expand(len(tokens), -1, -1)
        q, k, v = (
            x.unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for x in (self.query(query), *self.key_value(tokens).chunk(2, dim=-1))
        )
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = query + attended
        x = x + self.mlp(self.norm2(x))
        return self.fc_cls(x[:, 0]).float()


@MODELS.register_module()
class RegressionHead(BaseHead):
    """Predicts numbers instead of classes: ratings, angles, heart rates.

    The labels are floating-point tensors (num_outputs,), as ``VideoRegressionDataset`` gives
    them; the loss is the smooth L1 loss ``loss_reg``. Scale labels to a standard deviation of about
    one.

    Args:
        num_outputs (int): numbers per clip.
        in_channels (int): C of the feature.
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
        return self.fc_reg(_last(feats, 2, "'cls_token' or 'avg_featmap'")).float()

    def loss_by_feat(self, predictions: Tensor, data_samples: list) -> dict[str, Tensor]:
        """Smooth L1 loss against the samples' ``gt_label``.

        Raises:
            ValueError: a label is of another length.
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


def _last(feats: tuple[Tensor, ...], dims: int, out_type: str) -> Tensor:
    """The last feature of the backbone."""
    if feats[-1].dim() != dims:
        raise ValueError(
            f"the head needs the backbone's out_type={out_type}, but got a feature of shape "
            f'{tuple(feats[-1].shape)}'
        )
    return feats[-1]
