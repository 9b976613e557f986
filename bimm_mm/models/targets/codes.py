"""Codes of a tokenizer, the target of BEiT, BEVT, CAE and MAM2."""

import torch
from mmengine.registry import MODELS
from torch import Tensor

from ..layers import patchify
from ..losses import accuracy, cross_entropy
from ..step import Step
from .base import BaseTarget

FRAMES = ('both', 'first')


@MODELS.register_module()
class CodeTarget(BaseTarget):
    """The codes of a patch: classes, predicted with cross-entropy and scored by their accuracy.

    Codes are the side input 'codes', (B, H', W') for images or (B, T, H', W') for clips; the
    ``tokenizer`` of a branch makes them, or the data set brings them along. Their grid must be the
    grid of patches.

    Args:
        num_codes: V, the number of classes of the tokenizer.
        frames: For clips whose tokens are cubes of several frames: 'both' predicts a code for
            each frame (BEVT; V logits per frame, whose losses are averaged), 'first' that of the
            first frame.
        name: Under which loss and accuracy are logged.
    """

    score_name = 'accuracy'

    def __init__(self, num_codes: int, frames: str = 'both', name: str = 'codes', **kwargs) -> None:
        super().__init__(**kwargs)
        if frames not in FRAMES:
            raise ValueError(f"frames='{frames}' must be {' or '.join(map(repr, FRAMES))}")
        if num_codes < 2:
            raise ValueError(f'num_codes={num_codes} must be at least 2')
        self.num_codes = num_codes
        self.frames = frames
        self.name = name
        self.codes_per_token = self.patch_size[0] if frames == 'both' else 1
        self.out_dims = num_codes * self.codes_per_token

    @torch.no_grad()
    def from_step(self, step: Step, ids: Tensor | None) -> Tensor:
        """Codes (B, M, n) long, n for each token, in the order of its frames.

        Raises:
            ValueError: There are no codes, or their grid is not that of the patches.
        """
        if 'codes' not in step.side:
            raise ValueError(
                'CodeTarget needs codes: give the branch a tokenizer=dict(...), or the '
                "preprocessor side_inputs=('codes',) and the samples their codes"
            )
        codes = step.side['codes']
        codes = codes if codes.dim() == 4 else codes[:, None]  # (B, T, H', W')
        tubelet = self.patch_size[0]
        wanted = (step.grid[0] * tubelet, *step.grid[1:])
        if tuple(codes.shape[1:]) != wanted:
            raise ValueError(
                f'codes are a grid of {tuple(codes.shape[1:])} (frames, rows, columns), but '
                f'{step.grid} tokens of {tubelet} frames need {wanted}'
            )
        codes = patchify(codes[:, None], (tubelet, 1, 1), ids)  # (B, M, t)
        return codes[..., : self.codes_per_token]

    def loss(self, prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Cross-entropy: logits (B, M, n * V) and codes (B, M, n) to a scalar."""
        return cross_entropy(self.logits(prediction), target, weight)

    def score(self, prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Share of the codes that are the most likely ones."""
        return accuracy(self.logits(prediction), target, weight)

    def decode(self, prediction: Tensor) -> Tensor:
        """The most likely codes: logits (B, M, n * V) to (B, M, n) long."""
        return self.logits(prediction).argmax(dim=-1)

    def logits(self, prediction: Tensor) -> Tensor:
        """(B, M, n * V) to (B, M, n, V)."""
        return prediction.unflatten(2, (self.codes_per_token, self.num_codes))
