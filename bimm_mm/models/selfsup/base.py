"""What all pretrainers have in common: three ways to be called, and a way to start."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModel, ModuleList
from mmengine.registry import MODELS
from torch import Tensor, nn

from ..step import Step


class BasePretrainer(BaseModel):
    """A model that is trained without labels.

    A subclass defines :meth:`steps`, which runs its branches, and :attr:`branches`; or, for a
    method whose data flow is another, :meth:`loss`, :meth:`predict` and :meth:`extract_feat`
    themselves.

    Args:
        data_preprocessor: :class:`ClipDataPreprocessor` by default.
        objectives: Configs of modules that compare branches or views: each is called with the
            steps by branch, and returns losses (names with 'loss') and scores. In a run with
            several processes they gather what they compare, see :mod:`.losses.contrastive`.
    """

    def __init__(
        self,
        data_preprocessor: dict | None = None,
        objectives: Sequence[dict] = (),
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor or dict(type='ClipDataPreprocessor'), init_cfg)
        if objectives:  # else there is no such module, as in checkpoints of old
            self.objectives = ModuleList(MODELS.build(config) for config in objectives)

    @property
    def branches(self) -> dict[str, Any]:
        """The branches by name; what pictures and tools go through."""
        raise NotImplementedError

    @property
    def statistics(self) -> dict[str, list[float]]:
        """``mean`` and ``std`` of the preprocessor, which targets and tokenizers need."""
        return {k: getattr(self.data_preprocessor, k).flatten().tolist() for k in ('mean', 'std')}

    def forward(
        self,
        inputs: Tensor,
        data_samples: Sequence | None = None,
        mode: str = 'tensor',
        **side,
    ) -> dict:
        """Run the model on a normalized batch.

        Args:
            inputs: (B, 3, T, H, W) clips or (B, 3, H, W) images.
            data_samples: Not used here; what a model is to get of them, the preprocessor makes a
                side input.
            mode: 'loss', 'tensor' or 'predict'.
            **side: Side inputs by name, as the preprocessor passes them on.

        Returns:
            With 'loss', losses and scores by name; with 'tensor', per branch the features of all
            stages, (B, 1 + L, C) each, with nothing masked; with 'predict', per branch a
            :class:`Step`.
        """
        calls = dict(loss=self.loss, predict=self.predict, tensor=self.extract_feat)
        if mode not in calls:
            raise ValueError(f"mode='{mode}' must be 'loss', 'tensor' or 'predict'")
        return calls[mode](inputs, **side)

    def steps(self, inputs: Tensor, **side) -> dict[str, Step]:
        """Run all branches on a batch: their steps, by name."""
        raise NotImplementedError

    def loss(self, inputs: Tensor, **side) -> dict[str, Tensor]:
        """Losses and scores of a batch."""
        raise NotImplementedError

    @torch.no_grad()
    def predict(self, inputs: Tensor, **side) -> dict[str, Step]:
        """Masks, predictions and targets of all branches, for pictures."""
        return self.steps(inputs, **side)

    def extract_feat(self, inputs: Tensor, **side) -> dict[str, tuple[Tensor, ...]]:
        """Features of the unmasked input, per branch and stage (B, [1 +] L, C)."""
        raise NotImplementedError

    def compare(self, steps: dict[str, Step]) -> dict[str, Tensor]:
        """Losses and scores of the objectives."""
        result = {}
        for objective in getattr(self, 'objectives', ()):
            result |= objective(steps)
        return result

    def freeze_unused(self) -> None:
        """Freeze what no loss reaches in any branch.

        Distributed training would wait for gradients that never come.
        """
        if hasattr(self, 'objectives'):  # which read features
            return
        used, unused = set(), set()
        for branch in self.branches.values():
            idle = set(branch.unused_parameters())
            unused |= idle
            used |= set(branch.parameters()) - idle
        for parameter in unused - used:
            parameter.requires_grad_(False)

    def gradient_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by group, for logging gradient norms."""
        return dict(model=[p for p in self.parameters() if p.requires_grad])
