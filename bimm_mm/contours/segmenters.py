"""What a contour generator asks of a model that segments, and how Segment Anything answers."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .sam_modules import PromptDecoder, with_fast_attention


@dataclass
class Masks:
    """Masks of one picture.

    Attributes:
        logits: (n, h, w) float; a pixel above 0 belongs to the mask.
        scores: (n,), the model's own guess of the IoU of each.
        extent: Rows and columns of the logits that the picture takes, which need not be whole; what
            lies beyond is padding.
    """

    logits: Tensor
    scores: Tensor
    extent: tuple[float, float]


class Segmenter(ABC):
    """A model that finds masks at given points of a picture.

    Attributes:
        device: Where the model is.
        bytes_per_prompt: Memory that one point takes in :meth:`decode`, about.
    """

    device: torch.device
    bytes_per_prompt: int

    @abstractmethod
    def encode(self, images: Sequence[np.ndarray]) -> list[Any]:
        """Encode pictures, (H, W, 3) uint8, RGB; what is returned of each is for :meth:`decode`."""

    @abstractmethod
    def decode(self, features: Any, points: Tensor, min_score: float) -> Masks:
        """Find the masks at some points.

        Args:
            features: Of one picture.
            points: (P, 2), x and y as shares of the picture, from 0 to 1.
            min_score: Masks of a lower score are left out; all are kept if it is not above 0, as
                in SamAutomaticMaskGenerator.
        """


class SamSegmenter(Segmenter):
    """Segment Anything on the modules of segment_anything or MobileSAM.

    Args:
        sam: What :func:`bimm_mm.contours.sam.load_sam` returns. It stays as it is.
        dtype: float32, bfloat16 or float16, of all that the image takes part in. Prompts and scores
            are computed in float32 in any case.
        compile_encoder: Whether torch.compile works on the image encoder.
    """

    def __init__(
        self, sam: nn.Module, dtype: torch.dtype = torch.float32, compile_encoder: bool = False
    ) -> None:
        from segment_anything.utils.transforms import ResizeLongestSide

        self.sam, self.dtype, self.device = sam, dtype, sam.device
        encoder = with_fast_attention(sam.image_encoder)
        if dtype != torch.float32:
            encoder = copy.deepcopy(encoder).to(dtype)
        self.encoder = torch.compile(encoder) if compile_encoder else encoder
        self.decoder = PromptDecoder(sam.mask_decoder)
        self.resize = ResizeLongestSide(sam.image_encoder.img_size)
        with torch.inference_mode():
            self.positions = sam.prompt_encoder.get_dense_pe()
            self.no_mask = sam.prompt_encoder(points=None, boxes=None, masks=None)[1]

    @property
    def bytes_per_prompt(self) -> int:
        """Memory of one point in the decoder, about."""
        channels, tokens = self.positions.shape[1], self.positions[0, 0].numel()
        heads = self.decoder.transformer.layers[0].cross_attn_token_to_image.num_heads
        transformer = tokens * (4 * channels + 3 * heads * self.decoder.num_tokens)
        upscaling = 16 * tokens * 3 * channels // 8
        logits = 3 * 16 * tokens * 3 * 4  # in float32, at two resolutions
        return self.dtype.itemsize * (transformer + upscaling) + logits

    def encode(self, images: Sequence[np.ndarray]) -> list[Any]:
        """Encode pictures as one batch."""
        pictures = [self.resize.apply_image(image) for image in images]
        pixels = [
            self.sam.preprocess(torch.as_tensor(picture, device=self.device).permute(2, 0, 1))
            for picture in pictures
        ]
        embeddings = self.encoder(torch.stack(pixels).to(self.dtype))
        return [
            (self.decoder.embed_image(embedding, self.no_mask, self.positions), picture.shape[:2])
            for embedding, picture in zip(embeddings, pictures, strict=True)
        ]

    def decode(self, features: Any, points: Tensor, min_score: float) -> Masks:
        """Find the masks at some points; masks of a low score cost no upscaling."""
        image, (height, width) = features
        points = points.to(self.device) * points.new_tensor([width, height]).to(self.device)
        labels = torch.ones(len(points), 1, dtype=torch.int, device=self.device)
        prompts, _ = self.sam.prompt_encoder(
            points=(points[:, None], labels), boxes=None, masks=None
        )
        queries, keys = self.decoder.attend(image, prompts)
        scores = self.decoder.scores(queries).float()
        wanted = scores > min_score if min_score > 0 else torch.ones_like(scores, dtype=torch.bool)
        some = wanted.any(1)
        size = self.sam.image_encoder.img_size
        extent = tuple(
            side / size * 4 * tokens
            for side, tokens in zip((height, width), image.size, strict=True)
        )
        part = tuple(int(-(-side // 4)) for side in extent)
        logits = self.decoder.masks(queries[some], keys[some], image.size, part)
        return Masks(logits[wanted[some]], scores[wanted], extent)
