"""What one branch knows about one batch: the object that maskings, targets and objectives see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

# of inputs that no preprocessor has normalized: [0, 1] as it is
PLAIN_MEAN, PLAIN_STD = (0.0, 0.0, 0.0), (255.0, 255.0, 255.0)


@dataclass
class Step:
    """What a branch knows about a batch, filled in along its forward pass.

    A branch makes it at the beginning with ``x``, ``grid``, ``side``, ``others``, ``encode`` and
    ``training``; then come, in this order, the masks, the features, the predictions and the
    targets. Parts read what they need and change nothing.

    Attributes:
        x: The normalized input, (B, 3, H, W) or (B, 3, T, H, W).
        ids_keep: (B, K) visible tokens, ascending.
        ids_mask: (B, M) masked tokens, ascending.
        ids: Per target, (B, P) the tokens that are predicted: the masked ones, a share of them, or
            the visible ones.
        predictions: Per target, (B, P, D).
        targets: Per target, (B, P, D) float32, or (B, P) or (B, P, n) long for classes.
        grid: Token grid (T', H', W').
        side: Side inputs by name: 'contours' (B, 1, H, W) or (B, 1, T, H, W) in [0, 1], 'codes'
            (B, H', W') or (B, T, H', W') long, 'next_frame' (B, 3, H, W), 'views', the number of
            clips per video, and whatever else the preprocessor passes on (captions, say).
        others: Steps of the branches that ran before, by name.
        features: Per stage, (B, [1 +] K, C), class token first.
        weights: Per target, (B, P) the weight of each prediction in the loss, where they differ:
            0 for tokens that are only there to fill up the row, or that the encoder saw.
        encode: Encodes the tokens with the given ids (B, K) with the branch's own encoder, without
            gradient: (B, K, C) of the last stage, without the class token.
        embed: Embeds all tokens with the branch's own encoder, without positions: (B, N, C).
        log_prob: (B, N) log-probability that a masking which learns gave each token to be seen.
        training: Whether the branch is in training mode.
        mean: What was subtracted from the colors of ``x``, on the scale 0 to 255.
        std: What they were divided by.
    """

    x: Tensor
    ids_keep: Tensor | None = None
    ids_mask: Tensor | None = None
    ids: dict[str, Tensor] = field(default_factory=dict)
    predictions: dict[str, Tensor] = field(default_factory=dict)
    targets: dict[str, Tensor] = field(default_factory=dict)
    grid: tuple[int, int, int] | None = None
    side: dict[str, Any] = field(default_factory=dict)
    others: dict[str, Step] = field(default_factory=dict)
    features: Sequence[Tensor] = ()
    weights: dict[str, Tensor] = field(default_factory=dict)
    encode: Callable[[Tensor], Tensor] | None = None
    embed: Callable[[], Tensor] | None = None
    log_prob: Tensor | None = None
    training: bool = False
    mean: tuple[float, float, float] = PLAIN_MEAN
    std: tuple[float, float, float] = PLAIN_STD

    def colors(self) -> Tensor:
        """The input before it was normalized: (B, 3, T, H, W) RGB in [0, 1]; images have T = 1."""
        x = self.x if self.x.dim() == 5 else self.x[:, :, None]
        # numbers, not tensors: those would be copied from the host, which waits
        channels = zip(x.unbind(dim=1), self.mean, self.std, strict=True)
        colors = [(channel * std + mean) / 255 for channel, mean, std in channels]
        return torch.stack(colors, dim=1).clamp(0, 1)

    def select(self, samples: Tensor) -> Step:
        """Return the same step for some samples of the batch only.

        Args:
            samples: (S,) long.
        """
        size = len(self.x)

        def pick(value: Any) -> Any:
            if isinstance(value, Tensor) and value.dim() and len(value) == size:
                return value[samples]
            if isinstance(value, dict):
                return {key: pick(part) for key, part in value.items()}
            if isinstance(value, list) and len(value) == size:
                return [value[index] for index in samples.tolist()]
            return value

        own = {f.name: pick(getattr(self, f.name)) for f in fields(self) if f.name != 'others'}
        own['features'] = tuple(pick(part) for part in self.features)
        return replace(self, **own)
