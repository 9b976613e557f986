"""Several branches on one batch, the base of BIMM's pretrainers."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...utils import draws
from ..step import Step
from .base import BasePretrainer
from .branch import Branch

FRAMEWISE = ('contours', 'codes')  # side inputs of which an image branch gets one frame


class BranchPretrainer(BasePretrainer):
    """One or more named branches, of which image branches see one random frame of each clip.

    Args:
        branches: Name and config of each branch. Names are the prefixes in checkpoints and logs.
        weights: Weight of each branch's losses.
        data_preprocessor: :class:`ClipDataPreprocessor` by default.
        objectives: As in :class:`BasePretrainer`.
    """

    def __init__(
        self,
        branches: dict[str, dict],
        weights: dict[str, float],
        data_preprocessor: dict | None = None,
        objectives: Sequence[dict] = (),
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor, objectives, init_cfg)
        self.branch_names = tuple(branches)
        self.branch_weights = weights
        for name, config in branches.items():
            self.add_module(name, Branch(**(self.statistics | dict(config))))

    @property
    def branches(self) -> dict[str, Branch]:
        """The branches by name."""
        return {name: getattr(self, name) for name in self.branch_names}

    def steps(self, inputs: Tensor, **side) -> dict[str, Step]:
        """Run all branches, in order; each sees the steps of those before it."""
        steps = {}
        for name, (x, own) in self.split_inputs(inputs, **side).items():
            steps[name] = self.branches[name](x, own, dict(steps))
        return steps

    def loss(self, inputs: Tensor, **side) -> dict[str, Tensor]:
        """``loss_{branch}_{target}``, weighted, the scores, and what the objectives give."""
        steps, losses = self.steps(inputs, **side), {}
        for name, branch in self.branches.items():
            losses |= branch.losses(steps[name], f'{name}_', self.branch_weights[name])
        return losses | self.compare(steps)

    def extract_feat(self, inputs: Tensor, **side) -> dict[str, tuple[Tensor, ...]]:
        """Features of the unmasked input, per branch and stage (B, [1 +] L, C)."""
        parts = self.split_inputs(inputs, **side)
        return {
            name: branch.backbone(branch.encoder_input(branch.begin(*parts[name])))
            for name, branch in self.branches.items()
        }

    def split_inputs(self, inputs: Tensor, **side) -> dict[str, tuple[Tensor, dict]]:
        """Give each branch its input: clips, or one random frame of each clip (paper: section 3).

        Returns:
            Per branch, the input and its side inputs; of contours and codes an image branch gets
            those of its frame.
        """
        result = {}
        for name, branch in self.branches.items():
            if branch.is_video and inputs.dim() != 5:
                raise ValueError(
                    f'inputs of shape {tuple(inputs.shape)} are images, but the {name} branch '
                    'needs clips (B, 3, T, H, W)'
                )
            if inputs.dim() == 5 and not branch.is_video:
                picks = self.draw_frames(inputs)
                own = {k: self.frames_of(k, v, picks) for k, v in side.items() if k in FRAMEWISE}
                result[name] = self.take_frames(inputs, picks), side | own
            else:
                result[name] = inputs, side
        return result

    def draw_frames(self, clips: Tensor) -> Tensor:
        """Draw one frame of each clip: (B, C, T, H, W) to (B,) long."""
        return draws.randint(clips.shape[2], (len(clips),), clips.device)

    def frames_of(self, name: str, value: Tensor | list, picks: Tensor) -> Tensor | list:
        """One frame of each clip of a side input: contours (B, 1, T, H, W), codes (B, T, H', W').

        Of codes there may be a list, with None for clips that have none.
        """
        if isinstance(value, list):
            return [
                None if own is None else own.index_select(0, pick)[0]
                for own, pick in zip(value, picks.split(1), strict=True)
            ]
        if name == 'codes':
            return self.take_frames(value[:, None], picks)[:, 0]
        return self.take_frames(value, picks)

    @staticmethod
    def take_frames(clips: Tensor, picks: Tensor) -> Tensor:
        """Take one frame of each clip: (B, C, T, H, W) and (B,) to (B, C, H, W)."""
        return clips[torch.arange(len(clips), device=clips.device), :, picks]

    def gradient_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by group (shared, and the rest of each branch), for gradient norms."""
        groups: dict[str, list[nn.Parameter]] = {}
        owners: dict[nn.Parameter, list[str]] = {}
        for name, branch in self.branches.items():
            for parameter in branch.parameters():
                owners.setdefault(parameter, []).append(name)
        for parameter, names in owners.items():
            group = names[0] if len(names) == 1 else 'shared'
            groups.setdefault(group, []).append(parameter)
        return groups
