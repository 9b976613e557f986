"""A codebook of patches: the tokenizer that needs no pretrained model."""

import os
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from ...utils.checkpoint import save_whole
from ...utils.commands import command
from ...version import __version__
from ..layers import patchify
from .base import BaseTokenizer
from .files import read_tensors
from .vqgan import nearest

CENTERS = 'centers'


@MODELS.register_module()
class PatchTokenizer(BaseTokenizer):
    """Codes of a codebook of patches: each patch gets the number of the nearest one.

    Args:
        checkpoint: File of ``tools/dataset_converters/make_codebook.py``.
        **kwargs: As of :class:`BaseTokenizer`.

    Raises:
        FileNotFoundError, ValueError: As :class:`BaseTokenizer`.
    """

    source = f'make one with {command("make-codebook", "dataset_converters/make_codebook.py")}'

    def load(self, checkpoint: str | os.PathLike) -> tuple[nn.Module, int, int]:
        """As :meth:`BaseTokenizer.load`."""
        centers = read_tensors(checkpoint).get(CENTERS)
        side = 0 if centers is None or centers.dim() != 2 else round((centers.shape[1] / 3) ** 0.5)
        if not side or centers.shape[1] != 3 * side**2:
            raise ValueError(
                f'PatchTokenizer: {checkpoint} is not a codebook of patches; {self.source}'
            )
        return nn.Embedding.from_pretrained(centers.float()), len(centers), side

    def encode(self, pixels: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] to (N, H / factor, W / factor) codes."""
        patches = patchify(pixels[:, :, None], (1, self.factor, self.factor))
        codes = nearest(patches.flatten(0, 1), self.network.weight)
        return codes.view(len(pixels), *(side // self.factor for side in pixels.shape[2:]))


@dataclass
class Codebook:
    """Patches that stand for all others, and how well they do on the data they were made of.

    Attributes:
        centers: (V, 3 * p * p) float32 RGB in [0, 1], in the order channel, row, column.
        explained: Share of the patches' variance that the nearest center explains.
        most_frequent: Share of the patches that have the most frequent code: the accuracy of a
            prediction that always names this one.
        perplexity: Exp of the entropy of the codes: how many of them are in use, in effect.
        num_patches: Patches that it was made of.
    """

    centers: Tensor
    explained: float
    most_frequent: float
    perplexity: float
    num_patches: int


def sample_patches(
    clips: Iterable[Tensor], patch_size: int, per_clip: int, seed: int = 0
) -> np.ndarray:
    """Random patches on the grid of random frames.

    Args:
        clips: (3, H, W) or ([R,] 3, T, H, W) uint8 RGB each.
        patch_size: Side p of a patch in pixels; divides H and W.
        per_clip: Patches taken from each clip, with replacement.
        seed: Of the choice.

    Returns:
        (clips * per_clip, 3 * p * p) float32 in [0, 1].

    Raises:
        ValueError: If a clip does not consist of whole patches.
    """
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for clip in clips:
        if clip.dim() == 5:  # several clips of a video
            clip = clip.transpose(0, 1).flatten(1, 2)
        frames = clip[:, None] if clip.dim() == 3 else clip  # (3, T, H, W)
        size = tuple(frames.shape[1:])
        if size[1] % patch_size or size[2] % patch_size:
            raise ValueError(
                f'patch_size={patch_size} must divide the frames of {size[1]}x{size[2]} pixels'
            )
        count = size[0] * (size[1] // patch_size) * (size[2] // patch_size)
        ids = torch.randint(count, (1, per_clip), generator=generator)
        patches = patchify(frames[None], (1, patch_size, patch_size), ids)[0]
        parts.append(patches.numpy().astype(np.float32) / 255)
    return np.concatenate(parts)


def fit_codebook(patches: np.ndarray, num_codes: int, seed: int = 0) -> Codebook:
    """Cluster patches with scikit-learn's ``MiniBatchKMeans``.

    Args:
        patches: (N, 3 * p * p) float32 RGB in [0, 1]; N is at least ``num_codes``.
        num_codes: V.
        seed: Of the clustering.

    Raises:
        ValueError: If there are fewer patches than codes.
        ImportError: If scikit-learn is not installed.
    """
    try:
        from sklearn.cluster import MiniBatchKMeans
    except ImportError as error:
        raise ImportError('a codebook needs scikit-learn: pip install scikit-learn') from error
    if len(patches) < num_codes:
        raise ValueError(
            f'num_codes={num_codes} needs at least as many patches, and there are {len(patches)}'
        )
    clusters = MiniBatchKMeans(num_codes, batch_size=4096, n_init=1, random_state=seed)
    clusters.fit(patches)
    centers = torch.from_numpy(clusters.cluster_centers_.astype(np.float32))
    data = torch.from_numpy(patches)
    codes = torch.cat([nearest(part, centers) for part in data.split(16384)])
    error = (data - centers[codes]).square().mean()
    shares = torch.bincount(codes, minlength=num_codes) / len(codes)
    used = shares[shares > 0]
    return Codebook(
        centers,
        explained=float(1 - error / data.var(dim=0, correction=0).mean()),
        most_frequent=float(shares.max()),
        perplexity=float(torch.exp(-(used * used.log()).sum())),
        num_patches=len(patches),
    )


def write_codebook(codebook: Codebook, path: str | os.PathLike) -> None:
    """Write a codebook as :class:`PatchTokenizer` reads it, with the numbers about it as ``meta``.

    Raises:
        WriteError: If the file cannot be written.
    """
    meta = {key: value for key, value in vars(codebook).items() if key != 'centers'}
    meta |= dict(tokenizer='PatchTokenizer', bimm_mm_version=__version__)
    save_whole(dict(meta=meta, state_dict={CENTERS: codebook.centers}), path)
