"""Find videos by their captions."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

RANKS = (1, 5, 10)


@dataclass
class Retrieval:
    """How well videos are found by captions.

    Attributes:
        recall: For each of :data:`RANKS`, the share of captions for which one of the first so many
            videos is a right one.
        chance: The same of videos in random order.
        median_rank: Of the first right video; 1 is the best.
        captions: Number of different captions.
        videos: Number of videos.
    """

    recall: dict[int, float]
    chance: dict[int, float]
    median_rank: float
    captions: int
    videos: int

    def __str__(self) -> str:
        parts = [f'R@{k} {self.recall[k]:.1%} (chance {self.chance[k]:.1%})' for k in RANKS]
        return (
            f'{", ".join(parts)}, median rank {self.median_rank:g}, of {self.captions} captions '
            f'among {self.videos} videos'
        )


def text_to_video(videos: Tensor, texts: Tensor, captions: Sequence[str]) -> Retrieval:
    """Rank all videos for each different caption by cosine similarity.

    Args:
        videos: (N, D).
        texts: (N, D), of the captions of these videos.
        captions: N of them; a video is a right one if its caption is the same text.

    Raises:
        ValueError: There is no video.
    """
    if not len(videos):
        raise ValueError('no videos to be found')
    numbers: dict[str, int] = {}
    groups = torch.tensor([numbers.setdefault(text, len(numbers)) for text in captions])
    firsts = torch.tensor([captions.index(text) for text in numbers])
    similarity = F.normalize(texts[firsts], dim=1) @ F.normalize(videos, dim=1).T  # (C, N)
    order = similarity.argsort(dim=1, descending=True)
    right = groups[order] == groups[firsts][:, None]
    ranks = right.int().argmax(dim=1) + 1
    counts = right.sum(dim=1).double()
    return Retrieval(
        recall={k: (ranks <= k).double().mean().item() for k in RANKS},
        chance={k: _chance(counts, len(videos), k) for k in RANKS},
        median_rank=ranks.double().quantile(0.5).item(),
        captions=len(numbers),
        videos=len(videos),
    )


def _chance(counts: Tensor, videos: int, k: int) -> float:
    """Probability that one of ``counts`` right videos is among ``k`` of ``videos``, averaged."""
    missed = torch.ones_like(counts)
    for taken in range(min(k, videos)):
        missed *= ((videos - counts - taken) / (videos - taken)).clamp_min(0)
    return (1 - missed).mean().item()
