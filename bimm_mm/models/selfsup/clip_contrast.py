"""Contrast between clips, as an objective of any pretrainer."""

from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor

from ..losses import contrastive_loss
from ..step import Step


@MODELS.register_module()
class ClipContrast(BaseModule):
    """Tell two clips of a video from the clips of all other videos (VIMPAC, equations 4 to 6).

    The class tokens are projected; for each clip the candidates are the other clip of its video,
    which is the right one, and all clips of the other videos in all processes. The loss is the sum
    of both directions' means, times ``temperature``, times ``weight``. As an objective it needs an
    encoder with a class token, and samples of two clips each.

    Args:
        embed_dims: Width of the class token.
        projector: Arguments of :class:`ContrastProjector`.
        weight: Α (paper: 1).
        temperature: Of the similarities (paper: 0.2).
        branch: Whose features are compared, where a pretrainer has several.

    Raises:
        ValueError: If ``weight`` or ``temperature`` is not positive.
    """

    def __init__(
        self,
        embed_dims: int,
        projector: dict | None = None,
        weight: float = 1.0,
        temperature: float = 0.2,
        branch: str | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if weight <= 0 or temperature <= 0:
            raise ValueError(f'weight={weight} and temperature={temperature} must be positive')
        self.weight, self.temperature, self.branch = weight, temperature, branch
        self.projector = MODELS.build(
            dict(type='ContrastProjector', embed_dims=embed_dims) | (projector or {})
        )

    def forward(self, steps: dict[str, Step]) -> dict[str, Tensor]:
        """Compare the clips of a branch: ``loss_contrast``, weighted, and ``accuracy_contrast``."""
        step = steps[self.branch or next(iter(steps))]
        return self.compare(step.features[-1][:, 0])

    def compare(self, features: Tensor) -> dict[str, Tensor]:
        """As :meth:`forward`, of features (B, C), the two clips of a video next to each other.

        Raises:
            ValueError: If the number of clips is odd.
        """
        if len(features) % 2:
            raise ValueError(
                f'the contrast needs two clips of each video, but the batch has {len(features)} '
                'clips; give the data set num_clips=2 (num_repeats=2), or leave the contrast out'
            )
        first, second = self.projector(features).unflatten(0, (-1, 2)).unbind(1)  # (B / 2, D) each
        pairs = ((first, second), (second, first))
        results = [contrastive_loss(*pair, self.temperature, among_queries=True) for pair in pairs]
        return dict(
            loss_contrast=self.weight * self.temperature * (results[0][0] + results[1][0]),
            accuracy_contrast=(results[0][1] + results[1][1]) / 2,
        )
