"""VIMPAC: masked codes and contrast between clips (Tan, Lei, Wolf, Bansal; 2021)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from ...utils import draws
from ..masking import draw_masks
from ..step import Step
from .base import BasePretrainer
from .clip_contrast import ClipContrast


@dataclass
class CodePrediction:
    """What a :class:`VIMPAC` made of a batch.

    Attributes:
        codes: (B, T, H', W') long, with PAD where a clip has ended.
        mask: (B, T, H', W') bool, True where a code was masked and is to be predicted.
        predicted: (B, T, H', W') long: the most likely codes at masked places, the codes
            themselves elsewhere.
        features: (B, C), the class token.
    """

    codes: Tensor
    mask: Tensor
    predicted: Tensor
    features: Tensor


@MODELS.register_module()
class VIMPAC(BasePretrainer):
    """Predict the masked codes of clips, and tell two clips of a video from other videos' clips.

    Loss: the cross-entropy over all masked codes of both clips, plus ``contrast_weight`` times
    ``temperature`` times the sum of InfoNCE in both directions (equations 4 to 6; the code
    multiplies by the temperature). Both see the same masked clips.

    Args:
        backbone: Config of the encoder, :class:`VimpacViT`; with a ``tokenizer``, inputs can be
            pixels.
        masking: Config of the masking, such as ``dict(type='VimpacMasking', num_blocks=5)``.
        projector: Config of the contrast head, arguments of :class:`ContrastProjector`.
        contrast_weight: Weight α of the contrast (paper: 1). 0 leaves it out, and samples need
            not come in pairs.
        temperature: Of the contrast (paper: 0.2).
        noise: Whether each block of a :class:`VimpacMasking` becomes, by chance, MASK (80 %),
            random codes (10 %) or stays as it is (10 %), all being predicted. The paper's
            ablation: no better, and the large model's training diverged (appendix G.3).
        data_preprocessor: :class:`ClipDataPreprocessor`, for pixels, where the backbone has a
            tokenizer, else :class:`CodeDataPreprocessor`.

    A batch holds two clips of each video next to each other: samples with inputs (2, T, H', W') of
    codes, or (2, 3, T, H, W) of pixels.
    """

    def __init__(
        self,
        backbone: dict,
        masking: dict,
        projector: dict | None = None,
        contrast_weight: float = 1.0,
        temperature: float = 0.2,
        noise: bool = False,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        with_pixels = backbone.get('tokenizer') is not None
        default = 'ClipDataPreprocessor' if with_pixels else 'CodeDataPreprocessor'
        super().__init__(data_preprocessor or dict(type=default), init_cfg=init_cfg)
        if with_pixels:  # the tokenizer undoes what the preprocessor does
            tokenizer = self.statistics | dict(backbone['tokenizer'])
            backbone = dict(backbone, tokenizer=tokenizer)
        self.backbone = MODELS.build(backbone)
        self.masking = MODELS.build(masking)
        if noise and getattr(self.masking, 'num_blocks', None) is None:
            raise ValueError('noise=True needs masking=dict(type="VimpacMasking", num_blocks=...)')
        self.noise = noise
        width, rows = self.backbone.embed_dims, self.backbone.embedding.num_embeddings
        self.code_head = MODELS.build(dict(type='TiedCodeHead', embed_dims=width, num_outputs=rows))
        self.contrast = None
        if contrast_weight:
            self.contrast = ClipContrast(width, projector, contrast_weight, temperature)

    def read_codes(self, inputs: Tensor, num_valid_frames: Sequence[int] | None = None) -> Tensor:
        """The codes of a batch, with PAD after the end of clips.

        Args:
            inputs: (B, T, H', W') codes or (B, 3, T, H, W) normalized pixels.
            num_valid_frames: After how many frames each of the B clips ends; none does when left
                out.

        Returns:
            (B, T, H', W') long.
        """
        codes = self.backbone.read_codes(inputs)
        if num_valid_frames is None:
            return codes
        lengths = torch.as_tensor(num_valid_frames).to(codes.device, non_blocking=True)[:, None]
        ended = torch.arange(codes.shape[1], device=codes.device) >= lengths  # (B, T)
        return codes.masked_fill(ended[:, :, None, None], self.backbone.pad_code)

    def loss(
        self, inputs: Tensor, num_valid_frames: Sequence[int] | None = None, **side
    ) -> dict[str, Tensor]:
        """Losses of masked codes and of the contrast.

        Args:
            inputs: As of :meth:`read_codes`; with a contrast, the clips of a video next to each
                other, and B twice the number of videos.
            num_valid_frames: As of :meth:`read_codes`; a side input of the preprocessor.

        Returns:
            ``loss_code`` and ``loss_contrast``, weighted, and ``accuracy_code`` and
            ``accuracy_contrast``.

        Raises:
            ValueError: If there is a contrast, and the number of clips is odd.
        """
        codes = self.read_codes(inputs, num_valid_frames)
        corrupted, mask = self.corrupt(codes)
        # asked for before the encoder runs, as the host waits for the device to count
        places = mask.flatten().nonzero()[:, 0]  # (M,)
        cls, tokens, _ = self.backbone.encode(corrupted)
        logits = self.predict_codes(tokens.flatten(0, 1)[places]).float()  # (M, V + 5)
        right = codes.flatten()[places]
        losses = dict(
            loss_code=F.cross_entropy(logits, right) * share_of_codes(places),
            accuracy_code=(logits.detach().argmax(dim=1) == right).float().mean(),
        )
        if self.contrast is not None:
            losses |= self.contrast.compare(cls)
        return losses

    def corrupt(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Mask codes, (B, T, H', W').

        Returns:
            What the encoder gets, (B, T, H', W'), and (B, T, H', W') bool, True where a code is to
            be predicted, never at PAD.
        """
        if self.noise:
            return self.add_noise(codes)
        mask = self.draw_mask(codes)
        return codes.masked_fill(mask, self.backbone.mask_code), mask

    def add_noise(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`corrupt`, with one die for each block; later blocks cover earlier ones."""
        inside = codes != self.backbone.pad_code
        blocks = self.masking.draw_blocks(len(codes), tuple(codes.shape[1:]), codes.device)
        dice = draws.rand(blocks.shape[:2], codes.device)[..., None, None, None]
        noise = draws.randint(self.backbone.num_codes, blocks.shape, codes.device)
        corrupted = codes
        for block, die, random_codes in zip(*(x.unbind(1) for x in (blocks, dice, noise)),
                                            strict=True):  # fmt: skip
            corrupted = corrupted.masked_fill(block & (die < 0.8), self.backbone.mask_code)
            corrupted = torch.where(block & (die >= 0.8) & (die < 0.9), random_codes, corrupted)
        return torch.where(inside, corrupted, codes), blocks.any(dim=1) & inside

    def draw_mask(self, codes: Tensor) -> Tensor:
        """Draw which codes are masked: (B, T, H', W') bool, never True at PAD."""
        inside, grid = codes != self.backbone.pad_code, tuple(codes.shape[1:])
        if hasattr(self.masking, 'draw_mask'):  # a map, without the detour over indices
            return self.masking.draw_mask(len(codes), grid, codes.device) & inside
        masks = draw_masks(self.masking, Step(codes, grid=grid))
        # repetitions, of weight 0, are of masked tokens: what is set twice is set alike
        mask = torch.zeros_like(codes.flatten(1), dtype=torch.bool)
        return mask.scatter(1, masks.ids_mask, True).view_as(codes) & inside

    def predict_codes(self, tokens: Tensor) -> Tensor:
        """Logits of tokens (M, C): (M, V + 5)."""
        return self.code_head(tokens, self.backbone.embedding.weight)

    @torch.no_grad()
    def predict(
        self, inputs: Tensor, num_valid_frames: Sequence[int] | None = None, **side
    ) -> CodePrediction:
        """Mask and predict, for pictures and tests."""
        codes = self.read_codes(inputs, num_valid_frames)
        corrupted, mask = self.corrupt(codes)
        cls, tokens, _ = self.backbone.encode(corrupted)
        predicted = codes.clone()
        logits = self.predict_codes(tokens[mask.flatten(1)])
        predicted[mask] = logits[:, : self.backbone.num_codes].argmax(dim=1)
        return CodePrediction(codes, mask, predicted, cls)

    def extract_feat(
        self, inputs: Tensor, num_valid_frames: Sequence[int] | None = None, **side
    ) -> tuple[Tensor, ...]:
        """What the encoder makes of unmasked codes."""
        return self.backbone(self.read_codes(inputs, num_valid_frames))

    def gradient_groups(self) -> dict[str, list[nn.Parameter]]:
        """Groups of parameters whose gradient norms are logged, by name."""
        groups = dict(encoder=self.backbone, code_head=self.code_head, contrast=self.contrast)
        return {name: list(m.parameters()) for name, m in groups.items() if m is not None}


def share_of_codes(places: Tensor) -> Tensor:
    """Masked codes of this process, over their mean in all processes: 1 where there is one.

    Losses, averaged over processes, are then averages over all codes of the global batch.
    """
    own = torch.tensor(float(len(places)), device=places.device)
    return own / draws.over_processes(own.clone())
