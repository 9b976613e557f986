"""Segment Anything 2.1 (Ravi et al., 2024) for single pictures, by transformers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from .segmenters import Masks, Segmenter

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
WHERE = 'https://huggingface.co/facebook/sam2.1-hiera-base-plus'


class Sam2Segmenter(Segmenter):
    """SAM 2.1 in image mode, from a folder in transformers' layout.

    Pictures are resized to the model's square, as its own processor does.

    Args:
        folder: With ``config.json`` and ``model.safetensors``, as on Hugging Face.
        device: Where to put the model.
        dtype: float32, bfloat16 or float16.
        compile_encoder: Whether torch.compile works on the image encoder.

    Raises:
        FileNotFoundError: There is no such folder.
        ImportError: Transformers is not installed, or too old.
        ValueError: The folder does not hold a SAM 2.
    """

    def __init__(
        self,
        folder: str,
        device: str,
        dtype: torch.dtype = torch.float32,
        compile_encoder: bool = False,
    ) -> None:
        try:
            from transformers import Sam2Model
        except ImportError as error:
            raise ImportError(
                f"model_type='sam2' needs transformers 4.56 or newer, best in an environment of "
                f'its own: a cache is the same for all ({error})'
            ) from error
        if not (Path(folder) / 'config.json').is_file():
            raise FileNotFoundError(
                f'no folder {folder!r} with a config.json: download all files of {WHERE}, or of '
                'another size'
            )
        try:
            model = Sam2Model.from_pretrained(folder, dtype=dtype, local_files_only=True)
        except (OSError, ValueError, RuntimeError) as error:
            raise ValueError(f'{folder!r} does not hold a SAM 2: {str(error)[:300]}') from error
        self.model = model.to(device).eval().requires_grad_(False)
        if compile_encoder:
            self.model.vision_encoder = torch.compile(self.model.vision_encoder)
        self.device, self.dtype = torch.device(device), dtype
        self.side = self.model.config.prompt_encoder_config.image_size
        tokens = self.model.prompt_encoder.image_embedding_size
        channels = self.model.mask_decoder.hidden_size
        # image tokens of each point, their products, and features at four times the resolution
        entries = tokens[0] * tokens[1] * channels * (8 + 3 * 16 // 8)
        self.bytes_per_prompt = dtype.itemsize * entries + 3 * 16 * tokens[0] * tokens[1] * 12

    def encode(self, images: Sequence[np.ndarray]) -> list[Any]:
        """Encode pictures as one batch."""
        square = (self.side, self.side)
        pixels = np.stack(
            [cv2.resize(image, square, interpolation=cv2.INTER_LINEAR) for image in images]
        )
        pixels = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2) / 255
        mean, std = (pixels.new_tensor(values).view(3, 1, 1) for values in (MEAN, STD))
        maps = self.model.get_image_embeddings(((pixels - mean) / std).to(self.dtype))
        return [[part[i : i + 1] for part in maps] for i in range(len(images))]

    def decode(self, features: Any, points: Tensor, min_score: float) -> Masks:
        """Find the masks at some points."""
        points = (points.to(self.device, self.dtype) * self.side)[None, :, None]
        output = self.model(
            image_embeddings=features,
            input_points=points,
            input_labels=torch.ones(points.shape[:3], dtype=torch.int, device=self.device),
            multimask_output=True,
        )
        scores, logits = output.iou_scores[0].float(), output.pred_masks[0]  # (P, 3, ...)
        wanted = scores > min_score if min_score > 0 else torch.ones_like(scores, dtype=torch.bool)
        return Masks(logits[wanted], scores[wanted], tuple(logits.shape[-2:]))
