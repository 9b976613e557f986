"""Figures of what a model reconstructs (paper: figures 5 and 6; the layout is ours)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from ..models import Branch, Reconstruction
from .canvas import OUTLINE, Canvas, draw_scale, outline
from .pictures import BranchPicture, picture_branch
from .views import HIDDEN

# the areas by which the stages of a branch with three stages are called (paper)
AREAS = dict(ventral=('V1', 'V2', 'V4'), dorsal=('V1', 'V2', 'MT'))
MAX_FRAMES = 4

# lengths in pixels, at the resolution at which the figure is made
CELL = 224  # about; images are enlarged by a whole number
MARGIN, LABEL, GAP, SCALE = 28, 118, 6, 150
TITLE, HEADING, STAGE, FOOT = 58, 34, 66, 60
MIN_WIDTH = 500  # of a branch, for its captions


def draw_reconstruction(
    model: torch.nn.Module,
    results: dict[str, Reconstruction],
    samples: Sequence[int] = (0,),
    frames: Sequence[int] | None = None,
    composite: bool = True,
    title: str | None = None,
) -> Figure:
    """Draw originals, masks, targets and predictions, branches side by side.

    A column is a frame of a sample. The rows are the original, what the encoder saw, and for
    every stage the target and the prediction, both in the same colors.

    Args:
        model: A pretrainer, :class:`SingleBranchPretrainer` or
            :class:`DualBranchPretrainer`, not wrapped.
        results: What ``model(inputs, mode='predict')`` returned.
        samples: Which samples of the batch.
        frames: Which frames of a clip. The first frame of every
            tubelet by default, or of 4 evenly spaced ones where there are more.
        composite: Whether predictions are completed with the target where there are none,
            and outlined there; or those patches stay gray.
        title: Written above all.

    Returns:
        To be kept with :func:`save_figure`. It does not belong to pyplot, so there is
        nothing to close.

    Raises:
        TypeError: If ``results`` are not those of ``mode='predict'``.
        IndexError: For a sample or frame which is not there.
    """
    if not all(isinstance(result, Reconstruction) for result in results.values()):
        raise TypeError(
            f'results={ {name: type(result).__name__ for name, result in results.items()} } must '
            "be a Reconstruction per branch, as model(inputs, mode='predict') returns them"
        )
    clips = [result.x for result in results.values() if result.x.dim() == 5]
    _check_indices('samples', samples, min(len(result.x) for result in results.values()))
    if clips:
        frames = _spread_frames(model, clips[0].shape[2]) if frames is None else frames
        _check_indices('frames', frames, clips[0].shape[2])
    mean, std = model.data_preprocessor.mean, model.data_preprocessor.std
    blocks = []
    for name, result in results.items():
        branch = model.branches[name]
        picture = picture_branch(branch, result, mean, std, samples, composite)
        columns = []
        for place, sample in enumerate(samples):
            heading = f'sample {sample}' if len(samples) > 1 else ''
            if branch.is_video:
                columns += [(place, t, _join(heading, f'frame {t}')) for t in frames]
            else:
                source = _find_frame(result.x[sample], clips[0][sample]) if clips else ''
                columns.append((place, 0, _join(heading, source)))
        blocks.append(_Block(name, branch, picture, columns))
    return _draw(blocks, composite, title)


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure at the resolution it was made for; the folder is created where needed.

    Args:
        figure: Of :func:`draw_reconstruction`.
        path: With a suffix that matplotlib knows, such as ``.png``.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi='figure')
    return path


def _check_indices(name: str, indices: Sequence[int], length: int) -> None:
    if len(indices) == 0 or not all(0 <= index < length for index in indices):
        raise IndexError(f'{name}={indices} must be one or more numbers from 0 to {length - 1}')


def _spread_frames(model: torch.nn.Module, length: int) -> list[int]:
    """The first frames of some tubelets, evenly spaced."""
    tubelet = max(branch.backbone.patch_size[0] for branch in model.branches.values())
    count = min(MAX_FRAMES, length // tubelet)
    return [tubelet * (index * (length // tubelet) // count) for index in range(count)]


def _find_frame(image: torch.Tensor, clip: torch.Tensor) -> str:
    """Which frame of a clip (3, T, H, W) an image (3, H, W) is, in words; '' if none."""
    same = (clip == image[:, None]).flatten(2).all(dim=2).all(dim=0)
    return f'frame {int(same.float().argmax())}' if same.any() else ''


def _join(*words: str) -> str:
    return ', '.join(word for word in words if word)


@dataclass
class _Block:
    """One branch in the figure. A column: place among the samples, frame, heading."""

    name: str
    branch: Branch
    picture: BranchPicture
    columns: list[tuple[int, int, str]]

    def __post_init__(self) -> None:
        height, width = self.picture.original.shape[2:4]
        factor = max(1, round(CELL / max(height, width)))
        self.cell = (height * factor, width * factor)
        self.offsets, x = [], LABEL
        for index, column in enumerate(self.columns):
            if index and column[0] != self.columns[index - 1][0]:
                x += 4 * GAP  # samples are further apart than the frames of one
            self.offsets.append(x)
            x += self.cell[1] + GAP
        self.right = x
        has_scale = any(stage.view.unit for stage in self.picture.stages.values())
        self.width = max(x + SCALE * has_scale, MIN_WIDTH)
        pair = 2 * (self.cell[0] + GAP)
        self.height = TITLE + HEADING + pair + len(self.picture.stages) * (STAGE + pair)

    def subtitle(self) -> str:
        """What the encoder got."""
        visible = self.picture.visible
        length = self.picture.original.shape[1]
        kind, token = (
            (f'{length} frames', 'cubes') if self.branch.is_video else ('image', 'patches')
        )
        return f'{kind}, {1 - visible.mean():.0%} of {visible[0].size} {token} masked'


def stage_title(branch: Branch, name: str, index: int, what: str) -> str:
    """The area, or the number of the stage, that a decoder of a branch reads, and its target."""
    backbone, stage = branch.backbone, branch.neck.stages[index]
    areas = AREAS.get(name, ()) if backbone.num_stages == 3 else ()
    area = areas[stage] if areas else f'Stage {stage + 1}'
    return f'{area} (block {backbone.stage_ends[stage]}): {what}'


def _draw(blocks: list[_Block], composite: bool, title: str | None) -> Figure:
    top = MARGIN + (50 if title else 0)
    width = MARGIN + sum(block.width + MARGIN for block in blocks)
    canvas = Canvas(width, top + max(block.height for block in blocks) + FOOT + MARGIN // 2)
    if title:
        canvas.text(MARGIN, MARGIN + 12, title, fontsize=12, weight='bold')
    x = MARGIN
    for block in blocks:
        _draw_block(canvas, block, x, top, composite)
        x += block.width + MARGIN
    y = canvas.height - FOOT
    canvas.swatch(MARGIN, y, 'white', OUTLINE)
    note = 'seen by the encoder'
    if composite:
        note = (
            'outlined in the masked row: seen by the encoder; in a prediction row: what its label '
            'says\nwhere nothing was predicted, the prediction row shows the target'
        )
    else:
        canvas.swatch(MARGIN + 220, y, str(HIDDEN), str(HIDDEN))
        canvas.text(MARGIN + 248, y, 'hidden, or not predicted', fontsize=7.5, color='0.35')
    canvas.text(MARGIN + 28, y - 10, note, fontsize=7.5, color='0.35', va='top')
    return canvas.figure


def _draw_block(canvas: Canvas, block: _Block, left: int, top: int, composite: bool) -> None:
    picture, step = block.picture, block.cell[0] + GAP
    canvas.text(left, top + 14, f'{block.name.capitalize()} branch', fontsize=11, weight='bold')
    canvas.text(left, top + 42, block.subtitle(), fontsize=7.5, color='0.35')
    y = top + TITLE
    for offset, (_, _, heading) in zip(block.offsets, block.columns, strict=True):
        canvas.text(left + offset, y + HEADING / 2, heading, fontsize=7.5, color='0.35')
    y += HEADING
    _draw_row(canvas, block, left, y, 'original', picture.original)
    _draw_row(canvas, block, left, y + step, 'masked', picture.masked, picture.visible)
    y += 2 * step
    for index, stage in enumerate(picture.stages.values()):
        name = stage_title(block.branch, block.name, index, stage.view.title)
        canvas.text(left, y + 24, name, fontsize=9, weight='bold')
        canvas.text(left, y + 48, stage.view.note, fontsize=7, color='0.35')
        y += STAGE
        draw_scale(canvas, stage, left + block.right + 10, y, 2 * step - GAP)
        _draw_row(canvas, block, left, y, 'target', stage.target)
        outlined, label = None, 'prediction'
        if composite:  # the smaller part has an outline, and is named
            mostly = stage.predicted.mean() > 0.5
            outlined = ~stage.predicted if mostly else stage.predicted
            label = f'prediction\noutlined:\n{"target" if mostly else "predicted"}'
        _draw_row(canvas, block, left, y + step, label, stage.prediction, outlined)
        y += 2 * step


def _draw_row(
    canvas: Canvas,
    block: _Block,
    left: int,
    y: int,
    label: str,
    images: np.ndarray,
    outlined: np.ndarray | None = None,
) -> None:
    """One image per column; ``outlined`` are tokens, (B, T', H', W') bool."""
    height, width = block.cell
    canvas.text(left + LABEL - 10, y + height / 2, label, ha='right')
    length = block.picture.original.shape[1]
    rows, columns = block.picture.visible.shape[2:]
    for offset, (sample, frame, _) in zip(block.offsets, block.columns, strict=True):
        axes = canvas.axes(left + offset, y, width, height)
        image = images[sample, frame * images.shape[1] // length]
        axes.imshow(image, interpolation='nearest', extent=(0, columns, rows, 0), aspect='auto')
        axes.set_axis_off()
        if outlined is not None:
            tokens = outlined[sample, frame * outlined.shape[1] // length]
            axes.add_collection(LineCollection(outline(tokens), colors=OUTLINE, linewidths=0.9))
