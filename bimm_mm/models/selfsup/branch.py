"""One branch: what is masked, encoded, decoded and predicted."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from ..layers import ids_to_mask
from ..masking import BaseMasking, Masks, draw_masks
from ..step import Step
from ..targets.base import IMAGENET_MEAN, IMAGENET_STD
from .initialization import load_ventral_encoder


class BranchMixin:
    """The parts of masked prediction, and the way of a batch through them.

    For a module that calls :meth:`build_parts` in its constructor: :class:`Branch`, or a whole
    pretrainer with a single branch, :class:`MaskedPretrainer`.
    """

    def build_parts(
        self,
        backbone: dict,
        masking: dict,
        neck: dict,
        targets: Sequence[dict],
        loss_weights: Sequence[float] | None = None,
        decode_ratio: float = 1.0,
        decoder_masking: dict | None = None,
        tokenizer: dict | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        """Build the parts; see :class:`Branch`."""
        # in pretraining, the encoder returns the tokens of every stage
        self.backbone = MODELS.build(dict(out_type='raw', out_indices='stages') | dict(backbone))
        statistics = {k: v for k, v in dict(mean=mean, std=std).items() if v is not None}
        self.tokenizer = None if tokenizer is None else MODELS.build(statistics | dict(tokenizer))
        self.colors = tuple(mean or IMAGENET_MEAN), tuple(std or IMAGENET_STD)
        self.masking = self._build_masking(masking)
        self._check_masking()
        if decoder_masking is None and decode_ratio != 1:
            decoder_masking = dict(type='RandomSubset', ratio=decode_ratio)
        self.decoder_masking = MODELS.build(decoder_masking) if decoder_masking else None
        known = statistics | dict(patch_size=self.backbone.patch_size)
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

    @property
    def is_video(self) -> bool:
        """Whether the branch works on clips."""
        return self.backbone.is_video

    @property
    def wants_next_frame(self) -> bool:
        """Whether a target has use for one frame more than the encoder takes."""
        return any(getattr(target, 'wants_next_frame', False) for target in self.targets)

    def begin(
        self,
        x: Tensor,
        side: dict[str, Any] | None = None,
        others: dict[str, Step] | None = None,
    ) -> Step:
        """Make the step of a batch.

        Args:
            x: (B, 3, H, W) or (B, 3, T, H, W) normalized input. Clips may have one frame more,
                where a target has use for it: it becomes the side input 'next_frame' (B, 3, H, W).
            side: Side inputs by name.
            others: Steps of the branches that ran before.

        Raises:
            ValueError: The input has another size than the backbone's ``img_size`` and
                ``num_frames``, for which masks and decoders are made.
        """
        grid, patch = self.backbone.grid_size, self.backbone.patch_size
        x, side = self.split_next_frame(x, dict(side or {}))
        size = tuple(x.shape[2:]) if self.is_video else (1, *x.shape[2:])
        wanted = tuple(n * p for n, p in zip(grid, patch, strict=True))
        if size != wanted:
            raise ValueError(
                f'the input has {size[0]}x{size[1]}x{size[2]} frames x rows x columns, but the '
                f'branch is made for {wanted[0]}x{wanted[1]}x{wanted[2]}: change the pipeline, or '
                "the backbone's num_frames and img_size"
            )
        if self.tokenizer is not None or 'codes' in side:
            side['codes'] = self.complete_codes(side.get('codes'), x)
        step = Step(x, grid=grid, side=side, others=others or {}, training=self.training)
        step.mean, step.std = self.colors
        step.encode = lambda ids: self.encode_alone(step, ids)
        step.embed = lambda: self.embed_all(step)
        return step

    def split_next_frame(self, x: Tensor, side: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """Split (B, 3, T + 1, H, W), where a target wants the frame after the clip."""
        frames = self.backbone.grid_size[0] * self.backbone.patch_size[0]
        if not self.wants_next_frame or x.dim() != 5 or x.shape[2] != frames + 1:
            return x, side
        if 'contours' in side:
            side['contours'] = side['contours'][:, :, :-1]
        return x[:, :, :-1], side | dict(next_frame=x[:, :, -1])

    def complete_codes(self, codes: Tensor | list[Tensor | None] | None, x: Tensor) -> Tensor:
        """Make the codes of those samples that come without.

        Args:
            codes: (B, T, H', W') or of images (B, H', W'), of all samples; or a list with None for
                those that have none; or None. Those of frames after the clip are left out.
            x: The normalized input.

        Raises:
            ValueError: Some have none, and there is no tokenizer.
        """
        if isinstance(codes, Tensor):
            return codes[:, : x.shape[2]] if self.is_video else codes
        codes = [None] * len(x) if codes is None else codes
        # known on the host: nothing waits for the device
        missing = [index for index, own in enumerate(codes) if own is None]
        if missing and self.tokenizer is None:
            raise ValueError(
                f'{len(missing)} of {len(codes)} samples come without codes, since their crops do '
                'not lie on the grid of those made beforehand: use GridCrop, or give the branch a '
                'tokenizer=dict(...)'
            )
        grid = self.backbone.grid_size[1:]
        if len(missing) == len(codes):
            return self.tokenizer(x, grid)
        if missing:
            made = iter(self.tokenizer(torch.stack([x[index] for index in missing]), grid))
            codes = [next(made) if own is None else own for own in codes]
        length = x.shape[2] if self.is_video else None
        return torch.stack([own[:length] for own in codes])

    def run(self, step: Step) -> Step:
        """Mask, encode, decode, and compute the targets; fills in the step."""
        masks = draw_masks(self.masking, step)
        step.ids_keep, step.ids_mask = masks
        step.log_prob = masks.log_prob
        step.features = self.encode(step)
        decoded = self.draw_decoded(step, masks)
        predictions = self.neck(step.features, step.ids_keep, decoded.ids_mask)
        ids = self.neck.predicted_ids(step.ids_keep, decoded.ids_mask)
        step.predictions = dict(zip(self.names, predictions, strict=True))
        step.ids = dict(zip(self.names, ids, strict=True))
        if decoded.weight is not None:
            step.weights = {
                name: decoded.weight for name, i in step.ids.items() if i is decoded.ids_mask
            }
        step.targets = {
            target.name: target.from_step(step, step.ids[target.name])
            for target, loss_weight in zip(self.targets, self.loss_weights, strict=True)
            if loss_weight or not self.training
        }
        return step

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

    def encode(self, step: Step) -> Sequence[Tensor]:
        """Encode the visible tokens; or all of them, with mask tokens in the masked places."""
        x = self.encoder_input(step)
        if getattr(self.backbone, 'masked', 'dropped') == 'token':
            return self.backbone(x, ids_mask=step.ids_mask)
        return self.backbone(x, step.ids_keep)

    @torch.no_grad()
    def encode_alone(self, step: Step, ids: Tensor) -> Tensor:
        """Encode the tokens ``ids`` (B, K) by themselves: (B, K, C), as a regressor sees them."""
        tokens = self.backbone(self.encoder_input(step), ids)[-1][:, -ids.shape[1] :]
        return self.neck.project(tokens) if hasattr(self.neck, 'project') else tokens

    def embed_all(self, step: Step) -> Tensor:
        """Embed all tokens, without positions: (B, N, C)."""
        x = self.encoder_input(step)
        return self.backbone.patch_embed(x if self.is_video or x.dim() == 5 else x[:, :, None])

    def encoder_input(self, step: Step) -> Tensor:
        """What the encoder embeds: pixels, or the side input that its embedding names."""
        name = getattr(getattr(self.backbone, 'patch_embed', None), 'input_name', None)
        if name is None:
            return step.x
        if name not in step.side:
            raise ValueError(f"the backbone's embedding needs the side input '{name}'")
        return step.side[name]

    def draw_decoded(self, step: Step, masks: Masks) -> Masks:
        """Draw the tokens to decode: all masked ones, or in training those of the decoder's mask.

        Tokens of the decoder's mask that the encoder saw have weight 0 in the loss.
        """
        if not self.training or self.decoder_masking is None:
            return masks
        if masks.weight is not None:
            raise ValueError(
                f'decoder_masking needs a masking with the same count in every sample, which '
                f'{type(self.masking).__name__} is not'
            )
        decoded = draw_masks(self.decoder_masking, step)
        if getattr(self.decoder_masking, 'within_masked', False):
            return decoded
        hidden = ids_to_mask(step.ids_mask, step.grid).flatten(1)
        return replace(decoded, weight=hidden.gather(1, decoded.ids_mask).float())

    def losses(self, step: Step, prefix: str = '', weight: float = 1.0) -> dict[str, Tensor]:
        """Losses and scores of all targets.

        Args:
            step: After :meth:`run`.
            prefix: Put before the names of the targets.
            weight: Of all losses, besides ``loss_weights``.

        Returns:
            ``loss_{prefix}{target}``, weighted, and ``{score_name}_{prefix}{target}``, as
            ``explained_...`` or ``accuracy_...``.
        """
        result = {}
        for target, loss_weight in zip(self.targets, self.loss_weights, strict=True):
            name = target.name
            if not loss_weight:
                continue
            pair = (step.predictions[name], step.targets[name])
            if name in step.weights:  # only then: most targets have no use for the argument
                pair = (*pair, step.weights[name])
            result[f'loss_{prefix}{name}'] = weight * (loss_weight * target.loss(*pair))
            with torch.no_grad():
                result[f'{target.score_name}_{prefix}{name}'] = target.score(*pair)
        if step.log_prob is not None:
            errors = self.masking.losses(step)
            result |= {name.replace('_', f'_{prefix}', 1): weight * x for name, x in errors.items()}
        return result

    def _build_masking(self, masking: dict) -> BaseMasking:
        """Build it; one that learns gets the sizes of the encoder."""
        kind = masking['type']
        kind = MODELS.get(kind) if isinstance(kind, str) else kind
        if getattr(kind, 'learned', False):
            sizes = dict(embed_dims=self.backbone.embed_dims, grid_size=self.backbone.grid_size)
            masking = sizes | dict(masking)
        return MODELS.build(masking)

    def _check_masking(self) -> None:
        """Draw once, so that a ratio that does not fit shows at once."""
        if not getattr(self.masking, 'guided', False):
            self.masking(1, self.backbone.grid_size)


class Branch(BranchMixin, BaseModule):
    """An encoder, its masking, and a decoder and target per stage.

    Args:
        backbone: Config of the encoder, :class:`BimmViT`.
        masking: Config of the masking, see :class:`BaseMasking`.
        neck: Config of the decoders, :class:`MultiStageDecoder`.
        targets: Configs of the targets, one per decoder.
        loss_weights: One per target; 1 each by default (paper). A target of weight 0 has no loss in
            training. Parameters that serve no other loss (its decoder, blocks after the last stage
            with a weight) are frozen: no gradient step, no weight decay.
        decode_ratio: Share of the masked tokens, in (0, 1], that is decoded and predicted in
            training, drawn anew each time (our choice: 1); short for a ``decoder_masking`` of
            type RandomSubset.
        decoder_masking: Config of a masking whose masked tokens are decoded in training, as
            RunningCellMasking (VideoMAE V2). Those which the encoder saw do not count.
        tokenizer: Config of a tokenizer, which makes the side input 'codes' of those samples with
            which the data set does not bring it along.
        init_from: Checkpoint whose ventral encoder initializes this branch's encoder (paper: the
            dorsal encoder starts from the ventral one).
        mean, std: How the preprocessor normalizes; handed to targets and tokenizer.

    Sizes that follow from other parts are filled in: widths, token grid and target sizes for the
    neck, patch size and normalization for the targets.
    """

    def __init__(
        self,
        backbone: dict,
        masking: dict,
        neck: dict,
        targets: Sequence[dict],
        init_from: str | None = None,
        **settings,
    ) -> None:
        super().__init__()
        self.build_parts(backbone, masking, neck, targets, **settings)
        self.init_from = init_from

    def init_weights(self) -> None:
        """Initialize all parts, then the encoder from ``init_from``."""
        super().init_weights()
        if self.init_from is not None:
            load_ventral_encoder(self.backbone, self.init_from)

    def forward(
        self,
        x: Tensor,
        side: dict[str, Any] | None = None,
        others: dict[str, Step] | None = None,
    ) -> Step:
        """Mask, encode, decode: (B, 3, H, W) or (B, 3, T, H, W) normalized input.

        Args:
            x: The input.
            side: Side inputs by name, such as contours and codes.
            others: Steps of the branches that ran before, by name.

        Raises:
            ValueError: The input has another size than the backbone is made for.
        """
        return self.run(self.begin(x, side, others))
