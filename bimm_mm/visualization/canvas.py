"""Figures measured in pixels, and color scales."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure

from .pictures import StagePicture
from .views import GaborView

DPI = 160
OUTLINE = '#00c8ff'


class Canvas:
    """A figure in pixels, counted from the top left."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor='white')
        FigureCanvasAgg(self.figure)

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        corner = (x / self.width, 1 - (y + height) / self.height)
        return self.figure.add_axes((*corner, width / self.width, height / self.height))

    def swatch(self, x: float, y: float, facecolor: str, edgecolor: str) -> None:
        axes = self.axes(x, y - 9, 18, 18)
        axes.set(xticks=[], yticks=[], facecolor=facecolor)
        axes.spines[:].set(color=edgecolor, linewidth=1.5)

    def text(self, x: float, y: float, text: str, **style) -> None:
        style = dict(va='center', ha='left', fontsize=8) | style
        self.figure.text(x / self.width, 1 - y / self.height, text, **style)


def outline(tokens: np.ndarray) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Return the border around chosen tokens, (H', W') bool, as lines ((x, y), (x, y))."""
    around = np.pad(tokens, 1).astype(np.int8)
    across = np.argwhere(np.diff(around, axis=0)[:, 1:-1])
    down = np.argwhere(np.diff(around, axis=1)[1:-1])
    lines = [((x, y), (x + 1, y)) for y, x in across.tolist()]
    return lines + [((x, y), (x, y + 1)) for y, x in down.tolist()]


def draw_scale(canvas: Canvas, stage: StagePicture, x: int, y: int, height: int) -> None:
    """Draw the color scale of a stage, if its colors are not those of the input."""
    view = stage.view
    if isinstance(view, GaborView):
        _draw_orientations(canvas, x, y)
        y, height = y + 110, height - 110
    elif not view.unit:
        return
    bar = canvas.axes(x, y, 16, height)
    bar.imshow(
        np.linspace(1, 0, 256)[:, None],
        cmap=view.color_map or 'gray',
        extent=(0, 1, 0, stage.limit),
        aspect='auto',
    )
    bar.yaxis.tick_right()
    bar.set_xticks([])
    bar.locator_params(axis='y', nbins=4)
    bar.tick_params(labelsize=7, length=2, pad=2)
    bar.yaxis.set_label_position('right')
    bar.set_ylabel(view.unit, fontsize=7)


def _draw_orientations(canvas: Canvas, x: int, y: int, side: int = 90) -> None:
    """Draw a fan of lines in the colors of their orientation."""
    axes = canvas.axes(x, y, side, side)
    axes.set(xlim=(-1, 1), ylim=(1, -1), facecolor='black', xticks=[], yticks=[])
    count = 8
    for index in range(count):
        angle = np.pi * index / count + np.pi / 2  # a line is normal to its filter's wave vector
        color = hsv_to_rgb((index / count, 1, 1))
        dx, dy = 0.85 * np.cos(angle), 0.85 * np.sin(angle)
        axes.plot([-dx, dx], [-dy, dy], color=color, linewidth=1.8, solid_capstyle='round')
