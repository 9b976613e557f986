"""A single masked branch as a whole pretrainer: MAE, VideoMAE, BEVT, MaskFeat, MAM2, by config."""

from collections.abc import Sequence

from mmengine.registry import MODELS
from torch import Tensor

from ..step import Step
from .base import BasePretrainer
from .branch import BranchMixin


@MODELS.register_module()
class MaskedPretrainer(BranchMixin, BasePretrainer):
    """Pretrain one encoder on images or clips, by masked prediction.

    Its parts are called ``backbone``, ``neck`` and ``targets``, and so are the keys of its
    checkpoints: ``init_cfg=dict(type='Pretrained', checkpoint=..., prefix='backbone.')`` takes the
    encoder.

    Args:
        backbone, masking, neck, targets: Configs, as in :class:`Branch`.
        data_preprocessor: :class:`ClipDataPreprocessor` by default.
        objectives: As in :class:`BasePretrainer`; they get the step by the name 'masked'.
        **settings: ``loss_weights``, ``decode_ratio``, ``decoder_masking`` and ``tokenizer``, as
            in :class:`Branch`.
    """

    def __init__(
        self,
        backbone: dict,
        masking: dict,
        neck: dict,
        targets: Sequence[dict],
        data_preprocessor: dict | None = None,
        objectives: Sequence[dict] = (),
        init_cfg: dict | None = None,
        **settings,
    ) -> None:
        super().__init__(data_preprocessor, objectives, init_cfg)
        self.build_parts(backbone, masking, neck, targets, **(self.statistics | settings))
        self.freeze_unused()

    @property
    def branches(self) -> dict[str, 'MaskedPretrainer']:
        """The model itself, which is its only branch."""
        return dict(masked=self)

    def steps(self, inputs: Tensor, **side) -> dict[str, Step]:
        """Mask, encode and decode a batch of images or clips."""
        return dict(masked=self.run(self.begin(inputs, side)))

    def loss(self, inputs: Tensor, **side) -> dict[str, Tensor]:
        """``loss_{target}`` and the scores, as ``explained_{target}``."""
        steps = self.steps(inputs, **side)
        return self.losses(steps['masked']) | self.compare(steps)

    def extract_feat(self, inputs: Tensor, **side) -> dict[str, tuple[Tensor, ...]]:
        """Features of the unmasked input, per stage (B, [1 +] L, C)."""
        return dict(masked=self.backbone(self.encoder_input(self.begin(inputs, side))))
