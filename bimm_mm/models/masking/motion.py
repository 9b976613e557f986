"""What moves is hidden: by the motion vectors of the codec (MGM), or by changing pixels."""

import math

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor

from ...utils import draws
from ..step import Step
from .base import Masks
from .guided import GuidedMasking, mask_by_scores

FOLLOW = ('advect', 'argmax', 'walk')
TIE = 1e-6  # of the scores, added at random, so that static clips are not masked from the top


def frame_differences(step: Step) -> Tensor:
    """Mean absolute change to the next frame of each token: (B, T', H', W'), in units of [0, 1].

    Raises:
        ValueError: The input is an image.
    """
    clips = step.colors()
    if clips.shape[2] < 2:
        raise ValueError('frame differences need clips, but the input is one frame')
    change = clips.diff(dim=2).abs().mean(dim=1)  # (B, T - 1, H, W)
    change = torch.cat([change, change[:, -1:]], dim=1)
    return F.adaptive_avg_pool3d(change, step.grid)


@MODELS.register_module()
class FrameDifferenceMasking(GuidedMasking):
    """Mask in each frame the patches that change most, by the difference to the next frame.

    The cheap default among the guides: no network, no weights, nothing but pixels. Source: our
    choice. Where nothing changes, patches are masked at random.

    Args:
        ratio: As of :class:`GuidedMasking`.
        order: 'top' hides what moves, 'bottom' what does not.
        softness: As of :class:`GuidedMasking`; differences are on the scale of [0, 1].
        over: As of :class:`GuidedMasking`.
    """

    def __init__(
        self, ratio: float = 0.75, order: str = 'top', softness: float = 0.0, over: str = 'slot'
    ) -> None:
        super().__init__(ratio, order, softness, over)

    def draw_scores(self, step: Step, generator: torch.Generator | None = None) -> Tensor:
        """Change of each token, (B, T', H', W')."""
        scores = frame_differences(step)
        noise = draws.rand(scores.shape, scores.device, generator)
        return scores + TIE * noise


@MODELS.register_module()
class MotionVectorMasking(GuidedMasking):
    """Mask a rectangle that follows the motion vectors of the codec (MGM).

    From abstracts and notes about MGM (Fan et al., ICCV 2023): masks are contiguous in space and
    time, the motion vectors of the compressed video move them from frame to frame, and the ratio
    is 0.75. The rule by which they are placed was not found, and is our choice: in the first frame
    the rectangle lies where most moves; then it goes on by the vectors inside, weighted by their
    length. Patches beside the rectangle, those that move most first, make up the exact number.

    Needs the side input 'motion_vectors', (B, T', H', W', 2), in patches to the right and down
    from one slot to the next (``LoadMotionVectors`` and ``PackMotionVectors`` in the pipeline).
    Samples whose vectors are all zero, as the codec gives none or the side input is missing,
    follow the differences between frames: the rectangle goes to where most changes, at most a
    patch away.

    Args:
        ratio: Share of the tokens of a frame that is masked (MGM: 0.75).
        follow: 'advect' follows the vectors; 'argmax' goes to where most moves, at most a patch
            away from the frame before; 'walk' goes a patch in a random direction, without looking
            (MGM's "SMM").

    Raises:
        ValueError: ``follow`` is none of these.
    """

    def __init__(self, ratio: float = 0.75, follow: str = 'advect') -> None:
        super().__init__(ratio)
        if follow not in FOLLOW:
            raise ValueError(f"follow='{follow}' must be {', '.join(map(repr, FOLLOW))}")
        self.follow = follow

    @torch.no_grad()
    def draw(self, step: Step, generator: torch.Generator | None = None) -> Masks:
        """Draw masks; see :class:`BaseMasking`."""
        vectors, energy = self.motion(step)
        noise = draws.rand(energy.shape, energy.device, generator)
        energy = energy + TIE * (energy.amax(dim=(1, 2, 3), keepdim=True) + 1) * noise
        masked = self.num_masked(math.prod(step.grid[1:]))
        size = rectangle(masked, step.grid[1:])
        corners = self.place(vectors, energy, size, generator)  # (B, T', 2)
        inside = self.fill(corners, size, step.grid[1:])  # (B, T', H', W')
        near = F.max_pool2d(inside.float(), 3, 1, 1)
        share = energy / energy.amax(dim=(2, 3), keepdim=True)
        scores = 4 * inside + 2 * near + share
        return mask_by_scores(scores.flatten(2), masked)

    def motion(self, step: Step) -> tuple[Tensor, Tensor]:
        """Vectors (B, T', H', W', 2) and how much moves, (B, T', H', W')."""
        change = frame_differences(step)
        vectors = step.side.get('motion_vectors')
        if vectors is None:
            return change.new_zeros(*change.shape, 2), change
        if vectors.shape[:4] != change.shape:
            raise ValueError(
                f'motion_vectors have shape {tuple(vectors.shape)}, but tokens are '
                f'{tuple(change.shape)}: give PackMotionVectors the same sizes'
            )
        vectors = vectors.float()
        length = vectors.norm(dim=-1)
        known = length.amax(dim=(1, 2, 3), keepdim=True) > 0
        return vectors, torch.where(known, length, change)

    def place(
        self,
        vectors: Tensor,
        energy: Tensor,
        size: tuple[int, int],
        generator: torch.Generator | None,
    ) -> Tensor:
        """Upper left corners of the rectangle in each slot: (B, T', 2), rows and columns."""
        batch, slots, rows, columns = energy.shape
        sums = F.avg_pool2d(energy, size, 1)  # (B, T', rows - h + 1, columns - w + 1)
        width = sums.shape[3]
        best = sums[:, 0].flatten(1).argmax(dim=1)
        corner = torch.stack([best // width, best % width], dim=1).float()  # (B, 2)
        corners = [corner]
        known = (vectors != 0).flatten(1).any(dim=1)[:, None]
        for slot in range(1, slots):
            if self.follow == 'walk':
                drawn = draws.randint(3, (batch, 2), energy.device, generator) - 1
                corner = corner + drawn
            else:
                near = self._nearby(sums[:, slot], corner)
                if self.follow == 'advect':
                    moved = corner + self._mean_vector(
                        vectors[:, slot - 1], energy[:, slot - 1], corner, size
                    )
                    corner = torch.where(known, moved, near)
                else:
                    corner = near
            row, column = corner.unbind(dim=1)
            row, column = row.clamp(0, rows - size[0]), column.clamp(0, columns - size[1])
            corner = torch.stack([row, column], dim=1)
            corners.append(corner)
        return torch.stack(corners, dim=1).round().long()

    def _mean_vector(
        self, vectors: Tensor, energy: Tensor, corner: Tensor, size: tuple[int, int]
    ) -> Tensor:
        """Mean vector (B, 2), rows and columns, in the rectangle, weighted by what moves."""
        inside = self.fill(corner.round().long()[:, None], size, energy.shape[1:])[:, 0]
        weight = (energy * inside)[..., None]
        mean = (vectors * weight).sum(dim=(1, 2)) / weight.sum(dim=(1, 2)).clamp_min(1e-12)
        return mean.flip(-1)

    @staticmethod
    def _nearby(sums: Tensor, corner: Tensor) -> Tensor:
        """The best corner (B, 2) at most a patch away."""
        rows, columns = sums.shape[1:]
        row = torch.arange(rows, device=sums.device)[None] - corner[:, :1].round()
        column = torch.arange(columns, device=sums.device)[None] - corner[:, 1:].round()
        near = (row.abs() <= 1)[:, :, None] & (column.abs() <= 1)[:, None]
        best = sums.masked_fill(~near, -1).flatten(1).argmax(dim=1)
        return torch.stack([best // columns, best % columns], dim=1).float()

    @staticmethod
    def fill(corners: Tensor, size: tuple[int, int], grid: tuple[int, int]) -> Tensor:
        """Rectangles at corners (B, T', 2): (B, T', H', W') bool."""
        inside = []
        for axis in range(2):
            place = torch.arange(grid[axis], device=corners.device)
            start = corners[..., axis, None]
            inside.append((place >= start) & (place < start + size[axis]))
        return inside[0][..., None] & inside[1][..., None, :]


def rectangle(count: int, grid: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of a rectangle, nearly square, of at most ``count`` patches."""
    rows = min(max(int(math.sqrt(count)), 1), grid[0])
    return rows, min(count // rows, grid[1])
