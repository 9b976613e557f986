"""Contrast between masked videos and their captions, as an objective of any pretrainer."""

import hashlib
import math
from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from ..losses import matching_loss
from ..step import Step


@MODELS.register_module()
class VideoTextContrast(BaseModule):
    """Find each video's caption among those of all videos, and the reverse (TGM).

    The video is the mean of the tokens that the encoder saw, the caption the embedding of a frozen
    CLIP. That much, InfoNCE, and a weight of 1 are from a note about TGM's paper. Our choice:
    LayerNorm and a linear projection of the mean and none of the caption, cosine similarity, the
    mean of both directions, captions of all processes as candidates, and a learned temperature
    (CLIP's). Captions that are the same text are each other's match, and videos without a caption
    ('') are left out.

    Needs the side input 'caption', a text for each sample.

    Args:
        embed_dims: Width of the encoder.
        text: Config of what embeds captions, :class:`ClipTextEncoder`: called with captions and
            the device, returns (B, text_dims).
        text_dims: Width of the embeddings (CLIP ViT-B/32: 512).
        weight: Of the loss (TGM: 1).
        temperature: At the beginning (CLIP: 0.07).
        min_temperature: The least that it may become (CLIP: 0.01).
        branch: Whose features are compared, where a pretrainer has several.

    Raises:
        ValueError: ``weight`` or a temperature is not positive, or the temperature lies below its
            least.
    """

    def __init__(
        self,
        embed_dims: int,
        text: dict,
        text_dims: int = 512,
        weight: float = 1.0,
        temperature: float = 0.07,
        min_temperature: float = 0.01,
        branch: str | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if weight <= 0 or not 0 < min_temperature <= temperature:
            raise ValueError(
                f'weight={weight} and temperature={temperature} must be positive, and '
                f'min_temperature={min_temperature} positive and at most the temperature'
            )
        self.weight, self.branch = weight, branch
        self.text = MODELS.build(text)
        self.norm = nn.LayerNorm(embed_dims, eps=1e-6)
        self.projection = nn.Linear(embed_dims, text_dims, bias=False)
        self.max_scale = math.log(1 / min_temperature)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / temperature)))

    def forward(self, steps: dict[str, Step]) -> dict[str, Tensor]:
        """Compare a branch with its captions: ``loss_text``, weighted, and ``accuracy_text``.

        Raises:
            ValueError: The step has no captions.
        """
        step = steps[self.branch or next(iter(steps))]
        if 'caption' not in step.side:
            raise ValueError(
                "VideoTextContrast needs the side input 'caption': give the data set a "
                'caption_file, and the pipeline LoadCaption'
            )
        captions = step.side['caption']
        tokens = step.features[-1][:, -step.ids_keep.shape[1] :]  # without a class token
        videos = self.embed_videos(tokens)
        groups = group_captions(captions).to(videos.device, non_blocking=True)
        with torch.no_grad():  # clamping it in the graph would leave no gradient back
            self.logit_scale.clamp_(max=self.max_scale)
        texts = self.text(captions, videos.device)
        loss, found = matching_loss(videos, texts, groups, torch.exp(-self.logit_scale))
        return dict(loss_text=self.weight * loss, accuracy_text=found)

    def embed_videos(self, tokens: Tensor) -> Tensor:
        """(B, K, C) tokens of the encoder to (B, text_dims), in the space of the captions."""
        return self.projection(self.norm(tokens.mean(dim=1)))


def group_captions(captions: Sequence[str]) -> Tensor:
    """Number captions, equal texts alike in every process: (B,) long; -1 for ''."""
    digests = [hashlib.blake2b(text.encode(), digest_size=7).digest() for text in captions]
    numbers = [int.from_bytes(digest, 'big') for digest in digests]
    return torch.tensor([n if text else -1 for n, text in zip(numbers, captions, strict=True)])
