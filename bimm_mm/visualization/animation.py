"""Animate reconstructions: a tile for each stage, all frames of a clip."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..models import Reconstruction
from .canvas import Canvas, draw_scale
from .pictures import BranchPicture, picture_branch
from .reconstruction import stage_title

CELL = 192  # about; images are enlarged by a whole number
MARGIN, GAP, SCALE = 20, 8, 118
TITLE, HEADING, CAPTION, FOOT = 56, 56, 30, 24


def animate_reconstruction(
    model: torch.nn.Module,
    results: dict[str, Reconstruction],
    sample: int = 0,
    title: str | None = None,
) -> np.ndarray:
    """Draw all frames of a sample: input and targets above, visible patches and predictions below.

    A column is the input or a stage; predictions are completed with the target where nothing was
    predicted. Images stand still beside clips.

    Args:
        model: A pretrainer, not wrapped.
        results: What ``model(inputs, mode='predict')`` returned.
        sample: Which one of the batch.
        title: Written above all.

    Returns:
        (T, H, W, 3) RGB, uint8; T = 1 for an image.
    """
    mean, std = model.data_preprocessor.mean, model.data_preprocessor.std
    pictures = {
        name: picture_branch(model.branches[name], result, mean, std, (sample,))
        for name, result in results.items()
    }
    size = max(max(picture.original.shape[2:4]) for picture in pictures.values())
    factor = max(1, round(CELL / size))
    columns = max(1 + len(picture.stages) for picture in pictures.values())
    cell = size * factor
    step = cell + SCALE + GAP
    block = HEADING + 2 * (cell + CAPTION)
    canvas = Canvas(
        2 * MARGIN + columns * step,
        MARGIN + (TITLE if title else 0) + len(pictures) * (block + MARGIN) + FOOT,
    )
    top = MARGIN
    if title:
        canvas.text(MARGIN, top + 16, title, fontsize=10, weight='bold')
        top += TITLE
    tiles = []  # where each image goes, and the images (T, h, w, 3)
    for name, picture in pictures.items():
        tiles += _draw_branch(canvas, model.branches[name], name, picture, top, cell, step)
        top += block + MARGIN
    canvas.text(
        MARGIN,
        canvas.height - FOOT,
        'Predictions are completed with the target where the encoder saw the patch.',
        fontsize=6.5,
        color='0.35',
    )
    canvas.figure.canvas.draw()
    page = np.asarray(canvas.figure.canvas.buffer_rgba())[..., :3]
    length = max(len(images) for _, images in tiles)
    frames = np.repeat(page[None], length, axis=0)
    for (x, y), images in tiles:
        for index in range(length):
            image = images[index * len(images) // length]
            zoom = cell // max(image.shape[:2]), cell // max(image.shape[:2])
            image = np.kron(np.rint(image * 255), np.ones((*zoom, 1))).astype(np.uint8)
            frames[index, y : y + image.shape[0], x : x + image.shape[1]] = image
    return frames


def _draw_branch(
    canvas: Canvas,
    branch: torch.nn.Module,
    name: str,
    picture: BranchPicture,
    top: int,
    cell: int,
    step: int,
) -> list[tuple[tuple[int, int], np.ndarray]]:
    """Write what stands around the images of a branch, and return where they go."""
    masked = 1 - picture.visible.mean()
    columns = [(f'{name.capitalize()} branch', f'{masked:.0%} masked', picture, None)]
    for index, stage in enumerate(picture.stages.values()):
        titles = stage_title(branch, name, index, stage.view.title), stage.view.note
        columns.append((*titles, stage, stage))
    tiles = []
    for column, (title, note, content, stage) in enumerate(columns):
        x, y = MARGIN + column * step, top + HEADING
        canvas.text(x, top + 10, title, fontsize=7.5, weight='bold')
        note = textwrap.fill(note, 40)
        canvas.text(x, top + 22, note, fontsize=5.5, color='0.35', va='top')
        words = ('original', 'masked') if stage is None else ('target', 'prediction')
        images = (
            (content.original, content.masked)
            if stage is None
            else (content.target, content.prediction)
        )
        for word, movie in zip(words, images, strict=True):
            tiles.append(((x, y), movie[0]))
            canvas.text(x, y + cell + CAPTION / 2 - 2, word, fontsize=6.5)
            y += cell + CAPTION
        if stage is not None:
            draw_scale(canvas, stage, x + cell + 8, top + HEADING, 2 * cell + CAPTION)
    return tiles


def save_animation(frames: np.ndarray, path: str | Path, seconds: float = 0.2) -> Path:
    """Write frames (T, H, W, 3), RGB uint8, as a GIF that repeats; the folder is created."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    pages = [Image.fromarray(frame).quantize(256, dither=Image.Dither.NONE) for frame in frames]
    durations: Sequence[int] = [round(1000 * seconds)] * len(pages)
    pages[0].save(path, save_all=True, append_images=pages[1:], duration=durations, loop=0)
    return path
