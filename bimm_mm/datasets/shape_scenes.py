"""Crowded scenes for :class:`MovingShapesDataset`: many outlines, waves, others, a moving camera.

What the plain scenes give away is missing here. Shapes have the same area, mean radius and spread
of the radius, and any orientation; textures have the same colors, contrast and wavelength; the
background has structure of its own; and with a camera that moves, the way of the object in the
world is not what changes in the picture. Everything in this file is our choice; the paper trains on
real data only.

Lengths are in design pixels, 32 per side of a frame.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from .shape_fields import Field

DESIGN_SIZE = 32
VERSION = 1  # of the scenes: kept clips of another one are not taken
RADIUS = (6.8, 7.4)  # mean radius of an outline; of the disc for the plain shapes
RELIEF = 0.22  # standard deviation of an outline's radius, relative to its mean; the default
WAVELENGTH = 5.0
ANGLES = 720  # entries of the table of radii

# Luminances (0..255). Objects, textured or not, have one distribution of colors.
OBJECT, BACKGROUND, OCCLUDER = (150.0, 190.0), (60.0, 95.0), (5.0, 25.0)
TEXTURE_CONTRAST, BACKGROUND_CONTRAST = 24.0, 12.0  # standard deviations
BACKGROUND_WAVES = 5  # per side, at most
OCCLUDER_WIDTH = (2.5, 3.5)
CHROMA = 40.0
LUMA_WEIGHTS = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def _saw(turn: np.ndarray) -> np.ndarray:
    return np.where(turn < 0.85, turn / 0.85, (1 - turn) / 0.15)


# One lobe: the radius over a turn from 0 to 1, before it is brought to mean 0 and deviation 1.
LOBES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    'star': lambda turn: (2 * np.abs(turn - 0.5)) ** 2,  # pointed outwards
    'flower': lambda turn: -((2 * np.abs(turn - 0.5)) ** 2),  # pointed inwards
    'gear': lambda turn: np.tanh(3 * np.cos(2 * np.pi * turn)),
    'pinwheel': _saw,
}
COUNTS = {3: 'three', 4: 'four', 5: 'five', 6: 'six'}
PARTS = dict(star='pointed', flower='petaled', gear='toothed', pinwheel='bladed')


def _outline(lobe: Callable[[np.ndarray], np.ndarray], count: int, relief: float) -> np.ndarray:
    """Radii and their slopes over a whole turn, (2, ANGLES); mean radius 1."""
    turn = np.arange(ANGLES) / ANGLES * count % 1
    radius = lobe(turn)
    radius = 1 + relief * (radius - radius.mean()) / radius.std()
    slope = (np.roll(radius, -1) - np.roll(radius, 1)) / (4 * np.pi / ANGLES)
    return np.stack([radius, slope]).astype(np.float32)


@cache
def make_outlines(relief: float = RELIEF) -> dict[str, np.ndarray]:
    """Radii and slopes of 16 outlines, (2, ANGLES) each, by their names.

    Args:
        relief: Standard deviation of the radius, relative to its mean. Of all outlines the area is
            ``pi * (1 + relief ** 2)`` where the mean is 1.
    """
    return {
        f'{number}-{PARTS[name]} {name}': _outline(lobe, count, relief)
        for name, lobe in LOBES.items()
        for count, number in COUNTS.items()
    }


#: dict[str, tuple[float, ...]]: Directions of the waves of a texture, in degrees, y pointing down.
WAVES: dict[str, tuple[float, ...]] = {
    'upright waves': (0.0,),
    'falling waves': (135.0,),
    'level waves': (90.0,),
    'rising waves': (45.0,),
    'a grid': (0.0, 90.0),
    'a slanted grid': (45.0, 135.0),
}


@dataclass(frozen=True)
class Scene:
    """What is in a clip.

    Attributes:
        size: Height and width in pixels.
        num_frames: T.
        shape: Outline (2, ANGLES), or the signed distance to one of unit radius.
        texture: Directions of waves in degrees, or the signed distance to edges between two colors
            of period 1.
        velocity: Of the object, x and y in pixels per frame.
        camera: Likewise of the camera; everything else moves against it.
        others: Velocities of the distractors, which stand behind the object, untextured.
        outlines: Of the distractors.
        occluders: Number of posts and beams in front, which stand still.
        max_turn: Of objects either way, in degrees.
        clutter: How far distractors and occluders stand out from the background, 1 as far as the
            object and as black posts.
    """

    size: int
    num_frames: int
    shape: np.ndarray | Field
    texture: tuple[float, ...] | Field
    velocity: np.ndarray
    camera: np.ndarray
    others: Sequence[np.ndarray] = ()
    outlines: Sequence[np.ndarray | Field] = ()
    occluders: int = 0
    max_turn: float = 180.0
    clutter: float = 1.0

    def render(self, random: np.random.Generator) -> np.ndarray:
        """Draw it, (3, T, size, size) uint8; start, colors and phases come from ``random``."""
        times = np.arange(self.num_frames, dtype=np.float32)[:, None]
        canvas = self._background(random, -self.camera * times)
        for velocity, outline in zip(self.others, self.outlines, strict=True):
            way = (velocity - self.camera) * times
            self._object(canvas, random, way, outline, None, self._dimmed(OBJECT))
        way = (self.velocity - self.camera) * times
        self._object(canvas, random, way, self.shape, self.texture, OBJECT)
        for _ in range(self.occluders):
            self._occluder(canvas, random, -self.camera * times)
        return np.rint(canvas).clip(0, 255).astype(np.uint8)

    def _dimmed(self, luminance: tuple[float, float]) -> tuple[float, float]:
        """A range of luminance, brought nearer to the background."""
        middle = sum(BACKGROUND) / 2
        low, high = (middle + self.clutter * (end - middle) for end in luminance)
        return low, high

    def _background(self, random: np.random.Generator, way: np.ndarray) -> np.ndarray:
        """Noise of long waves around a color, moved along ``way``, (T, 2): (3, T, H, W) float32."""
        n = BACKGROUND_WAVES
        base, axis = _color(random, BACKGROUND), _color(random, (1.0, 1.0), chroma=0.5)
        draws = random.standard_normal((2, 2 * n + 1, n + 1))
        y, x = np.arange(-n, n + 1)[:, None], np.arange(n + 1)[None]
        length = np.hypot(y, x)
        kept = (length > 0) & (length <= n) & ((x > 0) | (y > 0))  # each wave once
        waves = np.where(kept, draws[0] + 1j * draws[1], 0) / np.maximum(length, 1)
        waves *= np.sqrt(2 / (np.abs(waves) ** 2).sum())  # a variance of 1
        # the sum of waves is separable, and a shift is a phase
        places = np.arange(self.size) + 0.5
        turn = 2j * np.pi / self.size
        along_x = np.exp(turn * x[0][None, :, None] * (places - way[:, :1, None]))  # (T, n + 1, W)
        along_y = np.exp(turn * y[:, 0][None, :, None] * (places - way[:, 1:, None]))
        noise = np.matmul(along_y.transpose(0, 2, 1), waves.astype(np.complex64) @ along_x).real
        noise = BACKGROUND_CONTRAST * noise.astype(np.float32)
        return base[:, None, None, None] + axis[:, None, None, None] * noise

    def _object(
        self,
        canvas: np.ndarray,
        random: np.random.Generator,
        way: np.ndarray,
        shape: np.ndarray | Field,
        texture: tuple[float, ...] | Field | None,
        luminance: tuple[float, float],
    ) -> None:
        """Draw an object onto the canvas where it is, its window only; borders wrap around."""
        unit = self.size / DESIGN_SIZE
        radius = random.uniform(*RADIUS) * unit
        reach = shape[0].max() + 0.1 if isinstance(shape, np.ndarray) else 1.8
        side = min(int(2 * reach * radius) + 3, self.size)
        centers = random.uniform(0, self.size, 2) + way  # (T, 2)
        corners = np.floor(centers - side / 2).astype(int)
        pixels = corners[..., None] + np.arange(side)  # (T, 2, side)
        local = (pixels + 0.5 - centers[..., None]).astype(np.float32)
        x, y = local[:, 0, None, :], local[:, 1, :, None]
        turn = np.deg2rad(random.uniform(-self.max_turn, self.max_turn))
        color = _color(random, luminance)[:, None, None, None]
        covered = _covered(shape, x / radius, y / radius, turn, radius)
        if texture is not None:
            color = color + TEXTURE_CONTRAST * _texture(texture, x / unit, y / unit, random)
        pixels %= self.size
        rows, columns = pixels[:, 1, :, None], pixels[:, 0, None, :]
        where = (slice(None), np.arange(len(way))[:, None, None], rows, columns)
        behind = canvas[where]
        canvas[where] = behind + covered * (color - behind)

    def _occluder(self, canvas: np.ndarray, random: np.random.Generator, way: np.ndarray) -> None:
        """Draw a post or a beam across the canvas."""
        unit = self.size / DESIGN_SIZE
        axis = int(random.integers(2))
        width = random.uniform(*OCCLUDER_WIDTH) * unit
        color = _color(random, self._dimmed(OCCLUDER), chroma=15.0)
        offset = np.arange(self.size) + 0.5 - (random.uniform(0, self.size) + way[:, axis, None])
        offset -= self.size * np.rint(offset / self.size)
        covered = np.clip(0.5 + width / 2 - np.abs(offset), 0, 1).astype(np.float32)  # (T, size)
        covered = covered[:, None, :] if axis == 0 else covered[:, :, None]
        canvas += covered * (color[:, None, None, None] - canvas)


def _color(
    random: np.random.Generator, luminance: tuple[float, float], chroma: float = CHROMA
) -> np.ndarray:
    """A color (3,) of a luminance in a range."""
    hue = random.uniform(-chroma, chroma, 3).astype(np.float32)
    return np.float32(random.uniform(*luminance)) + hue - hue @ LUMA_WEIGHTS


def _covered(
    shape: np.ndarray | Field, x: np.ndarray, y: np.ndarray, turn: float, radius: float
) -> np.ndarray:
    """Covered part of each pixel, (T, side, side), of a shape turned by an angle.

    Args:
        shape: Outline or signed distance.
        x: (T, 1, side), relative to the center and the radius.
        y: (T, side, 1), likewise.
        turn: In radians.
        radius: In pixels.
    """
    if not isinstance(shape, np.ndarray):
        sine, cosine = np.float32(np.sin(turn)), np.float32(np.cos(turn))
        distance = shape(x * cosine + y * sine, y * cosine - x * sine)
        return np.clip(0.5 - distance * radius, 0, 1)
    angle = (np.arctan2(y, x) - np.float32(turn)) * np.float32(ANGLES / (2 * np.pi))
    outline, slope = np.take(shape, angle.astype(np.int32) % ANGLES, axis=1)
    distance = np.hypot(x, y)
    steep = np.sqrt(1 + (slope / np.maximum(distance, 0.3)) ** 2)
    return np.clip(0.5 - (distance - outline) * np.float32(radius) / steep, 0, 1)


def _texture(
    texture: tuple[float, ...] | Field, x: np.ndarray, y: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """A pattern of mean 0 and variance 1, (T, side, side), of coordinates in design pixels."""
    if callable(texture):
        phases = random.uniform(0, 1, 2).astype(np.float32)
        period = np.float32(1.6 * WAVELENGTH)
        edges = texture(x / period + phases[0], y / period + phases[1])
        return np.clip(2 * period * edges, -1, 1)
    pattern = 0.0
    for angle in np.deg2rad(texture):
        turn = np.float32(2 * np.pi / WAVELENGTH) * (
            x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle))
        )
        pattern = pattern + np.cos(turn + np.float32(random.uniform(0, 2 * np.pi)))
    return np.float32((2 / len(texture)) ** 0.5) * pattern
