"""Turn the step of a branch into images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..models import Branch, Reconstruction
from ..models.layers import ids_to_mask, scatter_tokens
from .views import HIDDEN, TargetView, denormalize, view_of


@dataclass
class StagePicture:
    """Images of one stage; T, H and W count the values that are there, not always all pixels.

    Attributes:
        view: How the target is shown.
        limit: Value of the brightest color, the same for target and prediction.
        target: (B, T, H, W, 3) RGB in [0, 1], of all patches.
        prediction: Likewise, of predicted patches; others hold the target, or gray.
        predicted: (B, T', H', W') bool, the tokens which were predicted.
    """

    view: TargetView
    limit: float
    target: np.ndarray
    prediction: np.ndarray
    predicted: np.ndarray


@dataclass
class BranchPicture:
    """Images of one branch.

    Attributes:
        original: (B, T, H, W, 3) RGB in [0, 1]; an image has T = 1.
        masked: Likewise, masked patches gray.
        visible: (B, T', H', W') bool, the tokens which the encoder saw.
        stages: By the name of the target.
    """

    original: np.ndarray
    masked: np.ndarray
    visible: np.ndarray
    stages: dict[str, StagePicture]


@torch.no_grad()
def picture_branch(
    branch: Branch,
    result: Reconstruction,
    mean: Tensor,
    std: Tensor,
    samples: Sequence[int] = (0,),
    composite: bool = True,
) -> BranchPicture:
    """Turn what a branch made of a batch into images, all frames of the chosen samples.

    Args:
        branch: The branch.
        result: What it returned.
        mean, std: (3,) of the data preprocessor, on the scale 0 to 255.
        samples: Which samples of the batch.
        composite: Whether patches that were not predicted show the target, or gray.
    """
    picked = torch.tensor(samples, device=result.x.device)
    result = result.select(picked)
    x = result.x.float()
    x = x if x.dim() == 5 else x[:, :, None]
    mean, std = mean.flatten().cpu(), std.flatten().cpu()
    grid = tuple(s // p for s, p in zip(x.shape[2:], branch.backbone.patch_size, strict=True))
    visible = ids_to_mask(result.ids_keep, grid).cpu()
    colors = x.cpu()
    original = denormalize(colors, mean, std).clamp(0, 1)
    shown = visible
    for axis, patch in enumerate(branch.backbone.patch_size, start=1):
        shown = shown.repeat_interleave(patch, dim=axis)
    masked = torch.where(shown[:, None], original, HIDDEN)
    stages = {}
    for target in branch.targets:
        view = view_of(target, mean, std)
        ids = result.ids[target.name]
        values = target.from_step(result, None)
        guess = target.decode(result.predictions[target.name])
        guess = scatter_tokens(guess, ids, values.shape[1])
        predicted = ids_to_mask(ids, grid)
        if torch.equal(predicted.cpu(), visible):
            view.note = '; '.join(filter(None, (view.note, 'of visible patches')))
        if composite:
            guess = torch.where(predicted.flatten(1)[..., None], guess, values)
        truth, guess = (view.maps(part.cpu(), colors) for part in (values, guess))
        limit = view.limit(truth)
        stages[target.name] = StagePicture(
            view,
            limit,
            view.colors(truth, limit),
            view.colors(guess, limit),
            predicted.cpu().numpy(),
        )
    original, masked = (part.permute(0, 2, 3, 4, 1).numpy() for part in (original, masked))
    return BranchPicture(original, masked, visible.numpy(), stages)
