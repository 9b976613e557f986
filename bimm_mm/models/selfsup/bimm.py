"""BIMM's pretrainers: one branch alone, or both jointly."""

from collections.abc import Sequence

import torch
from mmengine.logging import print_log
from mmengine.registry import MODELS
from torch import Tensor

from ...utils.checkpoint import read_state, strip_prefix
from .branched import BranchPretrainer
from .initialization import (
    copy_ventral_decoders,
    load_ventral_decoders,
    load_ventral_encoder,
)


@MODELS.register_module()
class SingleBranchPretrainer(BranchPretrainer):
    """Pretrain one branch: the ventral stage, BIMM-Dorsal, MAE or VideoMAE, by its config.

    Args:
        ventral: The branch, on images or on random frames of clips; see :class:`Branch`.
        dorsal: The branch, on clips. Exactly one of the two is given.
        data_preprocessor: :class:`ClipDataPreprocessor` by default.
        objectives: As in :class:`BasePretrainer`.
    """

    def __init__(
        self,
        ventral: dict | None = None,
        dorsal: dict | None = None,
        data_preprocessor: dict | None = None,
        objectives: Sequence[dict] = (),
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
        weights = dict.fromkeys(branches, 1.0)
        super().__init__(branches, weights, data_preprocessor, objectives, init_cfg)
        self.freeze_unused()


@MODELS.register_module()
class DualBranchPretrainer(BranchPretrainer):
    """Pretrain both branches jointly on clips: L = L_ventral + λ · L_dorsal (paper: section 3).

    Args:
        ventral: The branch on one random frame of each clip; see :class:`Branch`.
        dorsal: The branch on the clip.
        share: Transformer blocks that serve both branches: 'none', 'partial', those
            of all stages but the last (paper: V1 and V2), 'all', or a number of blocks, counted
            from the input. Patch embeddings, class tokens, norms and decoders stay separate (our
            choice).
        dorsal_weight: Λ (paper: 1).
        init_dorsal_from: Checkpoint of the ventral stage. The ventral branch
            goes on from it, and the dorsal encoder is initialized from its encoder, with the
            patch embedding inflated.
        init_dorsal_decoders: Whether the dorsal decoders, too, start from those of that
            checkpoint, where they fit (our choice).
        data_preprocessor: :class:`ClipDataPreprocessor` by default.
        objectives: As in :class:`BasePretrainer`.
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
        objectives: Sequence[dict] = (),
        init_cfg: dict | None = None,
    ) -> None:
        branches = dict(ventral=ventral, dorsal=dorsal)
        weights = dict(ventral=1.0, dorsal=dorsal_weight)
        super().__init__(branches, weights, data_preprocessor, objectives, init_cfg)
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
        self.register_load_state_dict_pre_hook(check_sharing)

    def init_weights(self) -> None:
        """Initialize both branches, then from ``init_dorsal_from``."""
        super().init_weights()
        if self.init_dorsal_from is None:
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


def check_sharing(model: DualBranchPretrainer, state_dict: dict, prefix: str, *args) -> None:
    """Refuse a checkpoint in which blocks that the model shares differ; the hook before loading.

    Both names of a shared block hold one module, so the weights loaded last would win in silence.
    A checkpoint that shares more blocks than the model loses nothing, which the log says.

    Raises:
        ValueError: The checkpoint shares fewer blocks than ``model.num_shared``.
    """

    def is_shared(index: int) -> bool | None:
        ventral, dorsal = (
            strip_prefix(state_dict, f'{prefix}{name}.backbone.blocks.{index}.')
            for name in model.branch_names
        )
        if not ventral or ventral.keys() != dorsal.keys():
            return None  # as under FSDP, which has names of its own
        return all(_same(ventral[key], dorsal[key]) for key in ventral)

    shared = [is_shared(index) for index in range(model.ventral.backbone.depth)]
    apart = [index for index, same in enumerate(shared[: model.num_shared]) if same is False]
    if apart:
        raise ValueError(
            f'the checkpoint is of another sharing: num_shared={model.num_shared} blocks serve '
            f'both branches of this model, but those of blocks {apart} differ in the checkpoint, '
            f'which shares {shared.index(False)}. Set share={shared.index(False)}'
        )
    together = sum(same is True for same in shared[model.num_shared :])
    if together:
        print_log(
            f'{together} blocks that both branches share in the checkpoint go apart here, where '
            f'num_shared={model.num_shared}',
            'current',
            level=30,
        )


def _same(a: Tensor, b: Tensor) -> bool:
    return a is b or a.is_meta or b.is_meta or torch.equal(a, b)
