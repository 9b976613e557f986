"""What a caption speaks of is hidden (TGM)."""

import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor

from ...utils import draws
from ..step import Step
from .guided import GuidedMasking


@MODELS.register_module()
class TextGuidedMasking(GuidedMasking, BaseModule):
    """Mask in each frame the patches that are most similar to the caption (TGM).

    TGM (Fan et al., ECCV 2024) has no public code, and its paper could not be read here: that the
    top patches of each frame are masked, and the ratio, are from a note about the paper. Ties, what
    happens without a caption, and ``softness`` are our choice.

    Needs the side input 'caption', a text for each sample. A sample whose caption is '' is masked
    at random, as many tokens in each frame.

    Args:
        guide: Config of what compares patches and captions, :class:`ClipGuide`: called with clips
            (B, 3, T, H, W) in [0, 1], captions and the grid, returns (B, T', H', W').
        ratio: As of :class:`GuidedMasking` (TGM: 0.6).
        order: 'top' (TGM), or 'bottom': what the caption does not speak of.
        softness: As of :class:`GuidedMasking`.
        over: As of :class:`GuidedMasking`.
    """

    def __init__(
        self,
        guide: dict,
        ratio: float = 0.6,
        order: str = 'top',
        softness: float = 0.0,
        over: str = 'slot',
    ) -> None:
        BaseModule.__init__(self)
        GuidedMasking.__init__(self, ratio, order, softness, over)
        self.guide = MODELS.build(guide)

    def draw_scores(self, step: Step, generator: torch.Generator | None = None) -> Tensor:
        """Similarity of each token and the caption, (B, T', H', W').

        Raises:
            ValueError: The step has no captions.
        """
        if 'caption' not in step.side:
            raise ValueError(
                "TextGuidedMasking needs the side input 'caption': give the data set a "
                'caption_file, and the pipeline LoadCaption'
            )
        captions = step.side['caption']
        known = [place for place, caption in enumerate(captions) if caption]
        size = (len(captions), *step.grid)
        device = step.x.device
        scores = draws.rand(size, device, generator)
        if known:
            texts = [captions[place] for place in known]
            scores[known] = self.guide(step.colors()[known], texts, step.grid).to(scores.dtype)
        return scores
