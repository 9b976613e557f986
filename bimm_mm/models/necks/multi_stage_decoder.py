"""A decoder for every stage of the encoder."""

from collections.abc import Sequence

from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class MultiStageDecoder(BaseModule):
    """Decode the stages of an encoder, each with its own decoder (paper: V1, V2, V4 or MT).

    Args:
        decoders: Configs of the decoders, in the order of their targets.
        in_dims: Width C of the encoder's tokens.
        out_dims: Values per token of each decoder's target.
        grid_size: Token grid (T', H', W').
        num_stages: Stages of the encoder.
        video: Whether the tokens are cubes of a clip, or patches of an image.
        stages: The stage, counted from 0, which each decoder reads.
            One decoder per stage by default. Several may read the same one: pixels and motion
            at the last stage make MotionMAE. Each stage must be read.

    A :class:`Branch` fills in everything but ``decoders`` and ``stages``.
    """

    def __init__(
        self,
        decoders: Sequence[dict],
        in_dims: int,
        out_dims: Sequence[int],
        grid_size: tuple[int, int, int],
        num_stages: int,
        video: bool = False,
        stages: Sequence[int] | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if len(decoders) != len(out_dims):
            raise ValueError(
                f'decoders: {len(decoders)} of them for {len(out_dims)} targets; '
                'each target needs one decoder'
            )
        self.stages = tuple(range(num_stages)) if stages is None else tuple(stages)
        if len(self.stages) != len(decoders):
            raise ValueError(
                f'decoders: {len(decoders)} of them for {len(self.stages)} stages; give as many, '
                'or name the stage that each decoder reads by stages=(...)'
            )
        if set(self.stages) != set(range(num_stages)):
            raise ValueError(
                f'stages={self.stages} must name each of the stages 0 to {num_stages - 1} at '
                'least once, and no other'
            )
        self.decoders = nn.ModuleList(
            MODELS.build(
                dict(decoder, in_dims=in_dims, out_dims=dims, grid_size=grid_size, video=video)
            )
            for decoder, dims in zip(decoders, out_dims, strict=True)
        )

    def forward(
        self, features: Sequence[Tensor], ids_keep: Tensor, ids_mask: Tensor
    ) -> tuple[Tensor, ...]:
        """Predict the targets of all decoders.

        Args:
            features: (B, [1 +] K, C) per stage, class token first.
            ids_keep: (B, K) visible tokens.
            ids_mask: (B, M) masked tokens.

        Returns:
            (B, M, out_dims) per decoder, or (B, K, out_dims) where a decoder
            predicts visible tokens.
        """
        return tuple(
            decoder(features[stage], ids_keep, ids_mask)
            for decoder, stage in zip(self.decoders, self.stages, strict=True)
        )

    def predicted_ids(self, ids_keep: Tensor, ids_mask: Tensor) -> tuple[Tensor, ...]:
        """The tokens which each decoder predicts: ``ids_mask`` (B, M), or ``ids_keep`` (B, K)."""
        return tuple(
            ids_keep if decoder.predicts == 'visible' else ids_mask for decoder in self.decoders
        )
