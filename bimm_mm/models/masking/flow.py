"""A visible part of the middle frame that moves along with the optical flow (MGMAE)."""

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor

from ...utils import draws
from ..step import Step
from .guided import GuidedMasking


@MODELS.register_module()
class FlowGuidedMasking(GuidedMasking, BaseModule):
    """Keep the same part of a clip visible in all frames, wherever motion takes it (MGMAE).

    A map of what is visible in the middle frame, Gaussians around random patches, is warped from
    frame to frame outwards, each time with the flow to the neighbor that lies nearer to the middle.
    In each tubelet the patches where it is largest stay visible. Source: the authors'
    code (MCG-NJU/MGMAE). There, the flow of the frames before the middle one is taken in the other
    direction, as an option's name is misspelled; here it is not.

    Args:
        flow: Config of the optical flow, :class:`RaftFlow` or :class:`DisFlow`: called with frames
            (N, 3, H, W) in [0, 1] and their neighbors, returns (N, 2, H, W).
        ratio: Share of the patches of a tubelet that is masked (MGMAE: 0.9). The number of visible
            ones is rounded down: 19 of 196.
        over: 'slot' (MGMAE), or 'clip' to compare the patches of the whole clip.
    """

    def __init__(self, flow: dict, ratio: float = 0.9, over: str = 'slot') -> None:
        BaseModule.__init__(self)
        GuidedMasking.__init__(self, ratio, 'bottom', 0.0, over)
        self.flow = MODELS.build(flow)

    def num_masked(self, count: int) -> int:
        """How many of ``count`` tokens are masked: what is visible is rounded down."""
        return count - int(count * (1 - self.ratio))

    def draw_scores(self, step: Step, generator: torch.Generator | None = None) -> Tensor:
        """How visible each token is, (B, T', H', W')."""
        clips = step.colors()  # (B, 3, T, H, W)
        visible = self.draw_base(step, clips.shape[3:], generator)  # (B, H, W)
        maps = warp_outwards(visible, *self.flows(clips))  # (B, T, H, W)
        return F.adaptive_avg_pool3d(maps, step.grid)

    def draw_base(
        self, step: Step, size: tuple[int, int], generator: torch.Generator | None
    ) -> Tensor:
        """Draw the map of the middle frame, (B, H, W) in [0, 1].

        As many random patches as a tube masking of the same ratio leaves visible, 20 of 196; around
        the center of each exp(-d²/p²), with the distance d and the side p of a patch. Of several,
        the largest counts. Their heights differ by up to 1 % (our choice), so that the same 19
        of 20 patches are visible in all frames, whatever warping does to the last digits.
        """
        batch, (_, rows, columns) = len(step.x), step.grid
        count = rows * columns - int(self.ratio * rows * columns + 1e-9)
        noise = draws.rand((batch, rows * columns), step.x.device, generator)
        picks = noise.argsort(dim=1, stable=True)[:, :count]  # (B, 20)
        bumps = []
        for length, n, place in ((size[0], rows, picks // columns), (size[1], columns,
                                                                     picks % columns)):  # fmt: skip
            side = length / n
            pixel = torch.arange(length, device=picks.device) + 0.5
            distance = pixel - (place[..., None] + 0.5) * side  # (B, 20, length)
            bumps.append(torch.exp(-((distance / side) ** 2)))
        visible = torch.zeros(batch, *size, device=picks.device)
        for number, (down, across) in enumerate(zip(*(b.unbind(1) for b in bumps), strict=True)):
            height = 1 - 0.01 * number / count
            visible = torch.maximum(visible, height * down[:, :, None] * across[:, None])
        return visible / visible.amax(dim=(1, 2), keepdim=True)

    def flows(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Flows towards the middle frame m = T // 2.

        Returns:
            (B, m, 2, H, W) from each frame before it to the next one, and (B, T - 1 - m, 2, H, W)
            from each frame after it to the one before.
        """
        frames = clips.transpose(1, 2)  # (B, T, 3, H, W)
        middle = frames.shape[1] // 2
        first = torch.cat([frames[:, :middle], frames[:, middle + 1 :]], dim=1)
        second = torch.cat([frames[:, 1 : middle + 1], frames[:, middle:-1]], dim=1)
        flow = self.flow(first.flatten(0, 1), second.flatten(0, 1))
        flow = flow.float().unflatten(0, first.shape[:2])  # (B, T - 1, 2, H, W)
        return flow[:, :middle], flow[:, middle:]


def warp_outwards(visible: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """Warp a map of the middle frame to all frames.

    Where nothing comes from the neighbor, the map of the middle frame is taken.

    Args:
        visible: (B, H, W), of frame m.
        before: (B, m, 2, H, W) flows from frames 0 to m - 1 to the next one.
        after: (B, n, 2, H, W) flows from frames m + 1 to m + n to the one before.

    Returns:
        (B, m + 1 + n, H, W).
    """
    earlier, later = [visible], [visible]
    for flow in before.flip(1).unbind(1):
        earlier.append(_fill(warp(earlier[-1], flow), visible))
    for flow in after.unbind(1):
        later.append(_fill(warp(later[-1], flow), visible))
    return torch.stack([*reversed(earlier), *later[1:]], dim=1)


def warp(x: Tensor, flow: Tensor) -> Tensor:
    """Look up (B, H, W) where the flow (B, 2, H, W) points to, bilinearly; 0 outside."""
    height, width = x.shape[1:]
    rows = torch.arange(height, device=x.device, dtype=x.dtype)[:, None] + flow[:, 1]
    columns = torch.arange(width, device=x.device, dtype=x.dtype) + flow[:, 0]
    places = torch.stack(
        [2 * columns / max(width - 1, 1) - 1, 2 * rows / max(height - 1, 1) - 1], dim=-1
    )
    return F.grid_sample(x[:, None], places, padding_mode='zeros', align_corners=True)[:, 0]


def _fill(x: Tensor, visible: Tensor) -> Tensor:
    return torch.where(x == 0, visible, x)
