"""One branch: what is masked, encoded, decoded and predicted."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
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
        ids (dict[str, Tensor]): per target, (B, P) the tokens that were predicted: the masked ones,
            a share of them, or the visible ones.
        predictions (dict[str, Tensor]): per target, (B, P, out_dims).
        targets (dict[str, Tensor]): per target, (B, P, out_dims) float32.
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
        loss_weights (Sequence[float], optional): one per target; 1 each by default (paper). A loss
            of weight 0 is not computed, and what serves no other loss (its decoder, blocks after
            the last stage with a weight) is not trained: neither moved nor decayed.
        decode_ratio (float): share of the masked tokens, in (0, 1], that is decoded and predicted
            in training, drawn anew each time (our choice: 1; VideoMAE V2 decodes half of them).
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
        decode_ratio: float = 1.0,
        init_from: str | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        # in pretraining, the encoder returns the tokens of every stage
        self.backbone = MODELS.build(dict(out_type='raw', out_indices='stages') | dict(backbone))
        self.masking = MODELS.build(masking)
        self.masking(1, self.backbone.grid_size)  # a ratio that does not fit shows at once
        if not 0 < decode_ratio <= 1:
            raise ValueError(f'decode_ratio={decode_ratio} must be more than 0 and at most 1')
        self.decode_ratio = decode_ratio
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
        if not any(self.loss_weights):
            raise ValueError(f'loss_weights={self.loss_weights} must have one above 0')
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
        ids_decode = self.draw_decoded(ids_mask)
        predictions = self.neck(features, ids_keep, ids_decode)
        ids = self.neck.predicted_ids(ids_keep, ids_decode)
        targets = [target(x, i) for target, i in zip(self.targets, ids, strict=True)]
        return Reconstruction(
            x,
            ids_keep,
            ids_mask,
            *(dict(zip(self.names, parts, strict=True)) for parts in (ids, predictions, targets)),
        )

    def unused_parameters(self) -> list[nn.Parameter]:
        """The parameters that no loss reaches, because those that they serve have weight 0."""
        read = [s for s, weight in zip(self.neck.stages, self.loss_weights, strict=True) if weight]
        if len(read) == len(self.loss_weights):
            return []
        unused = [
            decoder
            for decoder, weight in zip(self.neck.decoders, self.loss_weights, strict=True)
            if not weight
        ]
        if hasattr(self.backbone, 'blocks'):
            unused += self.backbone.blocks[self.backbone.stage_ends[max(read)] :]
            unused += [
                getattr(self.backbone, f'norm{index}')
                for stage, index in enumerate(self.backbone.out_indices)
                if stage not in read
            ]
        return [parameter for module in unused for parameter in module.parameters()]

    def draw_decoded(self, ids_mask: Tensor) -> Tensor:
        """The masked tokens to decode, ascending: (B, M) to (B, at least 1 and at most M)."""
        if not self.training or self.decode_ratio == 1:
            return ids_mask
        count = max(round(self.decode_ratio * ids_mask.shape[1]), 1)
        picks = torch.rand(ids_mask.shape, device=ids_mask.device).argsort(dim=1)[:, :count]
        return ids_mask.gather(1, picks).sort(dim=1).values

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
            if not weight:
                continue
            prediction, target = result.predictions[name].float(), result.targets[name]
            error = F.mse_loss(prediction, target)
            losses[name] = weight * error
            explained[name] = 1 - error.detach() / mean_variance(target).clamp_min(1e-12)
        return losses, explained


def mean_variance(target: Tensor) -> Tensor:
    """Variance of each value over samples and tokens, averaged over the values: (B, M, D) to ().

    By the norms of the target and of its mean: two reads, where ``torch.var`` over the first axes
    takes ten times as long on a CPU.
    """
    total = torch.linalg.vector_norm(target).square() / target.numel()
    return total - target.mean(dim=(0, 1)).square().mean()
