"""Shapes and textures of :class:`MovingShapesDataset` as distances to their edges.

Everything in this file is our choice; the paper trains on real data only.
"""

from collections.abc import Callable

import numpy as np

Field = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _triangle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    # The distance to the lower edge, and to the other two, which mirror each other in x.
    return np.maximum(y, np.abs(x) * 0.8660254 - y * 0.5) - 0.7776


def _plus(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x, y = np.abs(x), np.abs(y)
    return np.maximum(np.minimum(x, y) - 0.3963, np.maximum(x, y) - 1.1890)


def _star(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    # One fifth of a turn holds one point of the star; folded at the tip, one straight edge.
    fifth = 2 * np.pi / 5
    angle = np.arctan2(x, -y)
    angle = np.abs(angle - fifth * np.rint(angle / fifth))
    return np.hypot(x, y) * np.cos(angle - 1.1122) - 0.6471


# Signed distances to the outline, negative inside, for shapes with the area of the unit disc
# (so that no shape is told from its area). Axes point right and down.
SHAPES: dict[str, Field] = {
    'disc': lambda x, y: np.hypot(x, y) - 1.0,
    'square': lambda x, y: np.maximum(np.abs(x), np.abs(y)) - 0.8862,
    'triangle': _triangle,
    'plus': _plus,
    'ring': lambda x, y: np.abs(np.hypot(x, y) - 0.8660) - 0.2887,
    'star': _star,
}


def _stripes(position: np.ndarray) -> np.ndarray:
    return 0.25 - np.abs(position - np.rint(position))


def _checker(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x, y = _stripes(x), _stripes(y)
    return np.where((x > 0) == (y > 0), 1, -1) * np.minimum(np.abs(x), np.abs(y))


# Signed distances to the edges between a texture's two colors, for a period of one. Each
# covers half of the plane with either color (so that no texture is told from its mean).
TEXTURES: dict[str, Field] = {
    'horizontal stripes': lambda x, y: _stripes(y),
    'vertical stripes': lambda x, y: _stripes(x),
    'checker': _checker,
    'dots': lambda x, y: 0.3989 - np.hypot(x - np.rint(x), y - np.rint(y)),
}
