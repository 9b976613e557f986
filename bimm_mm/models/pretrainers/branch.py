"""One branch: what is masked, encoded, decoded and predicted."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from .initialisation import load_ventral_encoder


@dataclass
class Reconstruction:
    """What a branch made of a batch.

    Attributes:
        x (Tensor): the normalised input, (B, 3, H, W) or (B, 3, T, H, W); a fourth channel holds
            contours, which the encoder does not see.
        ids_keep (Tensor): (B, K) visible tokens.
        ids_mask (Tensor): (B, M) masked tokens.
        ids (dict[str, Tensor]): per target, the tokens that were predicted.
        predictions (dict[str, Tensor]): per target, (B, M, out_dims).
        targets (dict[str, Tensor]): per target, (B, M, out_dims) float32.
    """

    x: Tensor
    ids_keep: Tensor
    ids_mask: Tensor
    ids: dict[str, Tensor]
    predictions: dict[str, Tensor]
    targets: dict[str, Tensor]


class Branch(BaseModule):
    """An encoder, its masking, and a decoder and target per stage.

    Args:
        backbone (dict): config of the encoder, :class:`BimmViT`.
        masking (dict): config of the masking.
        neck (dict): config of the decoders, :class:`MultiStageDecoder`.
        targets (Sequence[dict]): configs of the targets, one per decoder.
        loss_weights (Sequence[float], optional): one per target; 1 each by default (paper).
        init_from (str, optional): checkpoint whose ventral encoder initialises this branch's
            encoder (paper: the dorsal encoder starts from the ventral one).
        mean, std (Sequence[float], optional): how the preprocessor normalises; handed to targets.

    Sizes that follow from other parts are filled in: widths, token grid and target sizes for the
    neck, patch size and normalisation for the targets.
    """

    def __init__(
        self,
        backbone: dict,
        masking: dict,
        neck: dict,
        targets: Sequence[dict],
        loss_weights: Sequence[float] | None = None,
        init_from: str | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        # in pretraining, the encoder returns the tokens of every stage
        self.backbone = MODELS.build(dict(out_type='raw', out_indices='stages') | dict(backbone))
        self.masking = MODELS.build(masking)
        self.masking(1, self.backbone.grid_size)  # a ratio that does not fit shows at once
        known = dict(patch_size=self.backbone.patch_size, mean=mean, std=std)
        known = {key: value for key, value in known.items() if value is not None}
        self.targets = nn.ModuleList(MODELS.build(known | dict(target)) for target in targets)
        self.names = [target.name for target in self.targets]
        if len(set(self.names)) < len(self.names):
            raise ValueError(f'targets must have different names, and got {self.names}')
        self.loss_weights = tuple(loss_weights) if loss_weights else (1.0,) * len(self.targets)
        if len(self.loss_weights) != len(self.targets):
            raise ValueError(
                f'loss_weights={self.loss_weights} must hold one number for each of the '
                f'{len(self.targets)} targets'
            )
        self.neck = MODELS.build(
            dict(
                neck,
                in_dims=self.backbone.embed_dims,
                out_dims=[target.out_dims for target in self.targets],
                grid_size=self.backbone.grid_size,
                num_stages=self.backbone.num_stages,
                video=self.backbone.is_video,
            )
        )
        self.init_from = init_from

    @property
    def is_video(self) -> bool:
        """Whether the branch works on clips."""
        return self.backbone.is_video

    def init_weights(self) -> None:
        """Initialise all parts, then the encoder from ``init_from``."""
        super().init_weights()
        if self.init_from is not None:
            load_ventral_encoder(self.backbone, self.init_from)

    def forward(self, x: Tensor) -> Reconstruction:
        """Mask, encode, decode: (B, 3, H, W) or (B, 3, T, H, W) normalised input.

        Contours can be there as a fourth channel; targets see them, the encoder does not.

        Raises:
            ValueError: if the input has another size than the backbone's ``img_size`` and
                ``num_frames``, for which masks and decoders are made.
        """
        size = tuple(x.shape[2:]) if self.is_video else (1, *x.shape[2:])
        wanted = tuple(
            n * p for n, p in zip(self.backbone.grid_size, self.backbone.patch_size, strict=True)
        )
        if size != wanted:
            raise ValueError(
                f'the input has {size[0]}x{size[1]}x{size[2]} frames x rows x columns, but the '
                f'branch is made for {wanted[0]}x{wanted[1]}x{wanted[2]}: change the pipeline, or '
                "the backbone's num_frames and img_size"
            )
        ids_keep, ids_mask = self.masking(len(x), self.backbone.grid_size, x.device)
        features = self.backbone(x[:, :3], ids_keep)
        predictions = self.neck(features, ids_keep, ids_mask)
        ids = self.neck.predicted_ids(ids_keep, ids_mask)
        targets = [target(x, i) for target, i in zip(self.targets, ids, strict=True)]
        return Reconstruction(
            x,
            ids_keep,
            ids_mask,
            *(dict(zip(self.names, parts, strict=True)) for parts in (ids, predictions, targets)),
        )

    def loss(self, x: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Mean squared errors on the predicted tokens, and what they explain.

        Returns:
            tuple: per target, the weighted loss; and the explained variance, 1 - mean squared
            error / variance of the target on the same tokens, where the variance is about the
            mean of each of its values over tokens and samples. 0 is what a constant prediction
            reaches, 1 is perfect (our choice).
        """
        result = self(x)
        losses, explained = {}, {}
        for name, weight in zip(self.names, self.loss_weights, strict=True):
            prediction, target = result.predictions[name].float(), result.targets[name]
            error = F.mse_loss(prediction, target)
            variance = target.var(dim=(0, 1), unbiased=False).mean()
            losses[name] = weight * error
            explained[name] = 1 - error.detach() / variance.clamp_min(1e-12)
        return losses, explained
