"""The algorithms: one branch alone, or both jointly."""

from collections.abc import Sequence

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import Tensor, nn

from .branch import Branch, Reconstruction
from .initialisation import (
    copy_ventral_decoders,
    load_ventral_decoders,
    load_ventral_encoder,
    read_state,
)


class MaskedPretrainer(BaseModel):
    """What the pretrainers share: the ways of a batch through one or more branches.

    Args:
        branches (dict[str, dict]): name and config of each branch. Names are the prefixes in
            checkpoints and logs.
        weights (dict[str, float]): weight of each branch's losses.
        data_preprocessor (dict, optional): :class:`ClipDataPreprocessor` by default.
    """

    def __init__(
        self,
        branches: dict[str, dict],
        weights: dict[str, float],
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor or dict(type='ClipDataPreprocessor'), init_cfg)
        statistics = {
            key: getattr(self.data_preprocessor, key).flatten().tolist() for key in ('mean', 'std')
        }
        self.branch_names = tuple(branches)
        self.branch_weights = weights
        for name, config in branches.items():
            self.add_module(name, Branch(**(statistics | dict(config))))

    @property
    def branches(self) -> dict[str, Branch]:
        """The branches by name."""
        return {name: getattr(self, name) for name in self.branch_names}

    def forward(
        self, inputs: Tensor, data_samples: Sequence | None = None, mode: str = 'tensor'
    ) -> dict:
        """Run the model on a normalised batch.

        Args:
            inputs (Tensor): (B, 3, T, H, W) clips, or (B, 3, H, W) images where only a ventral
                branch is there; with contours as a fourth channel where targets need them. An
                image branch gets one random frame of each clip, with that frame's contours.
            data_samples (Sequence, optional): not used, pretraining needs no labels.
            mode (str): 'loss', 'tensor' or 'predict'.

        Returns:
            dict: with 'loss', ``loss_{branch}_{target}``, the weighted losses, and
            ``explained_{branch}_{target}``, their explained variances; with 'tensor', per branch
            the features of all stages, (B, 1 + L, C) each, with nothing masked; with 'predict',
            per branch a :class:`Reconstruction`.
        """
        if mode not in ('loss', 'tensor', 'predict'):
            raise ValueError(f"mode='{mode}' must be 'loss', 'tensor' or 'predict'")
        inputs = self.split_inputs(inputs)
        if mode == 'loss':
            return self.loss(inputs)
        if mode == 'predict':
            return self.predict(inputs)
        return {name: b.backbone(inputs[name][:, :3]) for name, b in self.branches.items()}

    def loss(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses of all branches from the input of each."""
        result = {}
        for name, branch in self.branches.items():
            losses, explained = branch.loss(inputs[name])
            for target in losses:
                result[f'loss_{name}_{target}'] = self.branch_weights[name] * losses[target]
                result[f'explained_{name}_{target}'] = explained[target]
        return result

    @torch.no_grad()
    def predict(self, inputs: dict[str, Tensor]) -> dict[str, Reconstruction]:
        """Masks, predictions and targets of all branches, for pictures."""
        return {name: branch(inputs[name]) for name, branch in self.branches.items()}

    def split_inputs(self, inputs: Tensor) -> dict[str, Tensor]:
        """The input of each branch: clips, or one random frame of each clip (paper: section 3)."""
        result = {}
        for name, branch in self.branches.items():
            if branch.is_video and inputs.dim() != 5:
                raise ValueError(
                    f'inputs of shape {tuple(inputs.shape)} are images, but the {name} branch '
                    'needs clips (B, 3, T, H, W)'
                )
            is_frame = inputs.dim() == 5 and not branch.is_video
            result[name] = self.pick_frames(inputs) if is_frame else inputs
        return result

    def pick_frames(self, clips: Tensor) -> Tensor:
        """One random frame of each clip: (B, C, T, H, W) to (B, C, H, W)."""
        picks = torch.randint(clips.shape[2], (len(clips),), device=clips.device)
        return clips[torch.arange(len(clips), device=clips.device), :, picks]

    def freeze_unused(self) -> None:
        """Freeze what no loss reaches in any branch.

        Distributed training would wait for gradients that never come.
        """
        used: set[nn.Parameter] = set()
        for branch in self.branches.values():
            used |= set(branch.parameters()) - set(branch.unused_parameters())
        for parameter in set(self.parameters()) - used:
            parameter.requires_grad_(False)

    def gradient_groups(self) -> dict[str, list[nn.Parameter]]:
        """Groups of parameters whose gradient norms are worth a look, by name."""
        groups: dict[str, list[nn.Parameter]] = {}
        owners: dict[nn.Parameter, list[str]] = {}
        for name, branch in self.branches.items():
            for parameter in branch.parameters():
                owners.setdefault(parameter, []).append(name)
        for parameter, names in owners.items():
            group = names[0] if len(names) == 1 else 'shared'
            groups.setdefault(group, []).append(parameter)
        return groups


@MODELS.register_module()
class SingleBranchPretrainer(MaskedPretrainer):
    """Pretrain one branch: the ventral stage, BIMM-Dorsal, MAE or VideoMAE, by its config.

    Args:
        ventral (dict): the branch, on images or on random frames of clips; see :class:`Branch`.
        dorsal (dict): the branch, on clips. Exactly one of the two is given.
        data_preprocessor (dict, optional): :class:`ClipDataPreprocessor` by default.
    """

    def __init__(
        self,
        ventral: dict | None = None,
        dorsal: dict | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        branches = {
            name: branch
            for name, branch in (('ventral', ventral), ('dorsal', dorsal))
            if branch is not None
        }
        if len(branches) != 1:
            raise ValueError(
                'SingleBranchPretrainer needs exactly one of ventral and dorsal, and got '
                f'{"both" if branches else "none"}'
            )
        super().__init__(branches, dict.fromkeys(branches, 1.0), data_preprocessor, init_cfg)
        self.freeze_unused()


@MODELS.register_module()
class DualBranchPretrainer(MaskedPretrainer):
    """Pretrain both branches jointly on clips: L = L_ventral + λ · L_dorsal (paper: section 3).

    Args:
        ventral (dict): the branch on one random frame of each clip; see :class:`Branch`.
        dorsal (dict): the branch on the clip.
        share (str | int): Transformer blocks that serve both branches: 'none', 'partial', those
            of all stages but the last (paper: V1 and V2), 'all', or a number of blocks, counted
            from the input. Patch embeddings, class tokens, norms and decoders stay separate (our
            choice).
        dorsal_weight (float): λ (paper: 1).
        init_dorsal_from (str, optional): checkpoint of the ventral stage. The ventral branch
            goes on from it, and the dorsal encoder is initialised from its encoder, with the
            patch embedding inflated.
        init_dorsal_decoders (bool): whether the dorsal decoders, too, start from those of that
            checkpoint, where they fit (our choice).
        data_preprocessor (dict, optional): :class:`ClipDataPreprocessor` by default.
    """

    def __init__(
        self,
        ventral: dict,
        dorsal: dict,
        share: str | int = 'partial',
        dorsal_weight: float = 1.0,
        init_dorsal_from: str | None = None,
        init_dorsal_decoders: bool = True,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        branches = dict(ventral=ventral, dorsal=dorsal)
        weights = dict(ventral=1.0, dorsal=dorsal_weight)
        super().__init__(branches, weights, data_preprocessor, init_cfg)
        self.init_dorsal_from = init_dorsal_from
        self.init_dorsal_decoders = init_dorsal_decoders
        if self.ventral.is_video or not self.dorsal.is_video:
            raise ValueError(
                'the ventral backbone must be an image encoder (num_frames=None) and the dorsal '
                'one a video encoder (num_frames=16, say)'
            )
        self.num_shared = self._read_share(share)
        for index in range(self.num_shared):
            block = self.ventral.backbone.blocks[index]
            block.is_shared = True
            self.dorsal.backbone.blocks[index] = block
        self.freeze_unused()

    def init_weights(self) -> None:
        """Initialise both branches, then from ``init_dorsal_from``."""
        super().init_weights()
        if self.init_dorsal_from is None:
            print_log(
                'init_dorsal_from is None: both branches start from scratch. The paper starts from '
                'a ventral branch that was pretrained on images.',
                'current',
            )
            return
        source = self.init_dorsal_from
        state = read_state(source)
        load_ventral_encoder(self.ventral.backbone, source, state)
        found = load_ventral_decoders(self.ventral.neck, source, state)
        load_ventral_encoder(self.dorsal.backbone, source, state)
        if self.init_dorsal_decoders:
            copy_ventral_decoders(self.ventral, self.dorsal, found)

    def _read_share(self, share: str | int) -> int:
        ventral, dorsal = self.ventral.backbone, self.dorsal.backbone
        numbers = {'none': 0, 'all': ventral.depth}
        if ventral.num_stages > 1:
            numbers['partial'] = ventral.stage_ends[-2]
            if share == 'partial' and ventral.stage_ends[-2:-1] != dorsal.stage_ends[-2:-1]:
                raise ValueError(
                    f"share='partial' needs the last stage to start at one block, but stage_ends "
                    f'are {ventral.stage_ends} (ventral) and {dorsal.stage_ends} (dorsal); give a '
                    'number of blocks'
                )
        number = numbers.get(share, share) if isinstance(share, str) else share
        if (
            not isinstance(number, int)
            or isinstance(number, bool)
            or not 0 <= number <= ventral.depth
        ):
            raise ValueError(
                f"share='{share}' must be one of {', '.join(numbers)}, or a number of blocks from "
                f'0 to {ventral.depth}'
            )
        if number and not (hasattr(ventral, 'blocks') and hasattr(dorsal, 'blocks')):
            raise ValueError(
                f"share='{share}' needs BimmViT in both branches; set share='none' for others"
            )
        for index in range(number):
            shapes = [
                [tuple(p.shape) for p in backbone.blocks[index].parameters()]
                if index < backbone.depth
                else None
                for backbone in (ventral, dorsal)
            ]
            if shapes[0] != shapes[1]:
                raise ValueError(
                    f"share='{share}' needs the same arch in both branches, but block {index} "
                    'differs; give both backbones one arch, or set share="none"'
                )
        return number
