"""Generated clips of textured shapes that move: data with nothing to download.

Everything in this file is our choice; the paper trains on real data only.
"""

import mmap
from collections.abc import Callable, Sequence

import numpy as np
import torch
from mmengine.registry import DATASETS
from mmengine.structures import BaseDataElement
from torch.utils.data import Dataset

# Lengths are in "design pixels", of which a frame has 32 per side whatever its real size.
DESIGN_SIZE = 32
# Few values are drawn at random, so that what is masked can be inferred from what is visible: the
# shape is large, its texture repeats every quarter of a side, and the background is smooth.
RADIUS = (9.5, 10.5)  # of the disc; the other shapes have the disc's area
TEXTURE_PERIOD = 8.0
MAX_SPEED = TEXTURE_PERIOD / 2  # beyond it the direction of a moving texture is ambiguous
BACKGROUND_WAVELENGTH = (24.0, 48.0)

# Luminances (0..255). Both colors of a texture are much brighter than the background, and close
# to each other: outlines are strong edges (a step of 0.39 of the range or more), texture edges are
# weak ones (0.28 or less), so that contours and texture are different things to predict.
BRIGHT, DARK, BACKGROUND = (215.0, 235.0), (165.0, 180.0), (25.0, 45.0)
BACKGROUND_CONTRAST = (10.0, 20.0)
CHROMA = 40.0
LUMA_WEIGHTS = np.array([0.299, 0.587, 0.114], dtype=np.float32)

# Compass names for the directions, y pointing down as in images.
DIRECTION_NAMES = {
    4: ('right', 'down', 'left', 'up'),
    8: ('right', 'down-right', 'down', 'down-left', 'left', 'up-left', 'up', 'up-right'),
}

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


# What stands before and behind the shape in a caption.
TEXTURES_IN_WORDS = {
    'horizontal stripes': ('', ' with horizontal stripes'),
    'vertical stripes': ('', ' with vertical stripes'),
    'checker': ('checkered ', ''),
    'dots': ('dotted ', ''),
}


@DATASETS.register_module()
class MovingShapesDataset(Dataset):
    """Textured shapes that move over a smooth static background, made on demand.

    Each sample has three labels: ``motion`` (direction and speed), ``shape`` and ``texture``.
    The labels follow a full factorial: each run of ``num_motions * 6 * 4`` samples (192 by
    default) holds every combination once, in an order drawn from ``seed``. Everything else
    (start, size, colors, texture phase, background) is drawn independently of the
    labels, and the start is uniform, so a single frame says nothing about the motion. Paths
    wrap around at the borders. The texture is fixed to its shape and moves with it.

    A clip depends only on ``seed``, its index and the arguments that describe it, not on
    ``length``, the process or the order of access. Frames of the same index with another
    ``num_frames`` continue the same path. Splits are datasets with different seeds.

    Source: our choice; the paper has no generated data.

    Args:
        length: Number of samples. A multiple of the number of label combinations makes
            the labels perfectly balanced.
        seed: Seed of labels and content, 0 or more. Give each split its own.
        size: Height and width of a frame in pixels, at least 16. All lengths scale with
            it.
        num_frames: Frames T in a clip. None gives images: the first frame of
            the clip of the same index.
        directions: 4 or 8 directions of motion, evenly spread, starting with right.
        speeds: Different speeds in units of 1/32 of a side per frame (pixels
            per frame at ``size=32``), each above 0 and at most 4: beyond half a period of the
            texture per frame, its direction would be ambiguous.
        cache: Keep each sample in memory once made (3 * T * size ** 2 bytes per sample).
            The cache is shared with forked DataLoader workers; spawned workers start their own.
        captions: Whether samples have a true caption, as 'a dotted star moves left, fast'.

    Raises:
        TypeError: If ``length``, ``seed``, ``size`` or ``num_frames`` is no integer.
        ValueError: If an argument is outside its range.
        MemoryError: If the cache cannot be allocated.

    Each sample is a dict:

    - ``inputs`` (torch.uint8): RGB, (3, T, size, size), or (3, size, size) for images.
    - ``data_samples`` (BaseDataElement): ``motion``, ``shape``, ``texture`` and ``sample_idx``,
      all int; with ``captions`` also ``caption``, a text.
    """

    def __init__(
        self,
        length: int,
        seed: int = 0,
        size: int = 32,
        num_frames: int | None = 8,
        directions: int = 4,
        speeds: Sequence[float] = (1.0, 2.5),
        cache: bool = True,
        captions: bool = False,
    ) -> None:
        _check_int('length', length, minimum=1)
        _check_int('seed', seed, minimum=0)
        _check_int('size', size, minimum=16)
        if num_frames is not None:
            _check_int('num_frames', num_frames, minimum=1)
        if directions not in DIRECTION_NAMES:
            raise ValueError(f'directions must be 4 or 8, but got {directions!r}')
        _check_speeds(speeds)
        self.length = length
        self.seed = seed
        self.size = size
        self.num_frames = num_frames
        self.captions, self.speeds = captions, tuple(speeds)

        angles = 2 * np.pi * np.arange(directions) / directions
        units = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        # (motions, 2), x and y in pixels per frame; speeds vary fastest.
        self._velocities = (units[:, None] * np.array(speeds)[:, None]).reshape(-1, 2)
        self._velocities *= size / DESIGN_SIZE
        self.metainfo = dict(
            motion_classes=tuple(
                f'{name} at {speed:g}' for name in DIRECTION_NAMES[directions] for speed in speeds
            ),
            shape_classes=tuple(SHAPES),
            texture_classes=tuple(TEXTURES),
        )
        counts = [len(classes) for classes in self.metainfo.values()]
        order = np.argsort(self._draw(0, np.prod(counts), stream=1))
        combination = order[np.arange(length) % len(order)]
        motion, shape, texture = np.unravel_index(combination, counts)
        #: dict[str, np.ndarray]: Labels of all samples, (length,) each, without rendering.
        self.labels = dict(motion=motion, shape=shape, texture=texture)

        frames = (num_frames,) if num_frames is not None else ()
        self._sample_shape = (3, *frames, size, size)
        self._grid = np.arange(size, dtype=np.float32) + 0.5
        self._cache = self._allocate_cache() if cache else None

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict:
        """Return sample ``index``; see the class for its content.

        Raises:
            IndexError: If ``index`` is not in [0, length).
        """
        if not 0 <= index < self.length:
            raise IndexError(f'index must be in [0, {self.length}), but got {index}')
        index = int(index)
        labels = {name: int(values[index]) for name, values in self.labels.items()}
        if self._cache is None:
            pixels = self._render(index, **labels)
        else:
            made, clips = self._cache
            if not made[index]:
                clips[index] = self._render(index, **labels)
                made[index] = True  # last, as another worker may be looking
            pixels = clips[index].copy()
        metainfo = dict(caption=self.describe(**labels)) if self.captions else None
        sample = BaseDataElement(metainfo=metainfo, **labels, sample_idx=index)
        return dict(inputs=torch.from_numpy(pixels), data_samples=sample)

    def describe(self, motion: int, shape: int, texture: int) -> str:
        """The caption of clips with these labels; without their motion for images."""
        looks = TEXTURES_IN_WORDS[self.metainfo['texture_classes'][texture]]
        text = f'a {looks[0]}{self.metainfo["shape_classes"][shape]}{looks[1]}'
        if self.num_frames is None:
            return text
        direction, speed = self.metainfo['motion_classes'][motion].split(' at ')
        rank = sorted(self.speeds).index(self.speeds[motion % len(self.speeds)])
        words = {1: [''], 2: [', slowly', ', fast']}.get(len(self.speeds))
        return f'{text} moves {direction}{words[rank] if words else f", at speed {speed}"}'

    def __getstate__(self) -> dict:
        # Anonymous shared memory survives a fork but not pickling.
        return {**self.__dict__, '_cache': self._cache is not None}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._cache = self._allocate_cache() if state['_cache'] else None

    def _allocate_cache(self) -> tuple[np.ndarray, np.ndarray]:
        # Anonymous mappings are shared by forked workers, take up memory only where they were
        # written, and are not bound by the size of /dev/shm, which is small in containers.
        num_bytes = self.length * (1 + int(np.prod(self._sample_shape)))
        try:
            memory = np.frombuffer(mmap.mmap(-1, num_bytes), dtype=np.uint8)
        except (OSError, ValueError, OverflowError) as error:
            raise MemoryError(
                f'cache=True needs {num_bytes / 2**30:.1f} GiB for length={self.length}, '
                f'size={self.size}, num_frames={self.num_frames}; use cache=False'
            ) from error
        made, clips = memory[: self.length], memory[self.length :]
        return made, clips.reshape(self.length, *self._sample_shape)

    def _draw(self, index: int, count: int, stream: int = 0) -> np.ndarray:
        # A counter-based generator gives each index its own numbers, in any order.
        bits = np.random.Philox(key=[self.seed, stream], counter=[0, 0, 0, index])
        return np.random.Generator(bits).random(count)

    def _render(self, index: int, motion: int, shape: int, texture: int) -> np.ndarray:
        """Draw one clip, (3, T, H, W), or one image, (3, H, W), uint8."""
        draws = iter(self._draw(index, 32).tolist())
        unit = self.size / DESIGN_SIZE

        def uniform(low: float, high: float) -> float:
            return low + (high - low) * next(draws)

        def color(luminance: float) -> np.ndarray:
            chroma = np.array([uniform(-CHROMA, CHROMA) for _ in range(3)], dtype=np.float32)
            return luminance + chroma - chroma @ LUMA_WEIGHTS

        # Background: a plane wave between two colors, (3, 1, H, W).
        middle, contrast = uniform(*BACKGROUND), uniform(*BACKGROUND_CONTRAST)
        ends = color(middle - contrast), color(middle + contrast)
        wave = 2 * np.pi / (uniform(*BACKGROUND_WAVELENGTH) * unit)
        angle, phase = uniform(0, 2 * np.pi), uniform(0, 2 * np.pi)
        wave_x = self._grid * np.float32(wave * np.cos(angle))
        wave_y = self._grid * np.float32(wave * np.sin(angle)) + np.float32(phase)
        weight = 0.5 + 0.5 * np.sin(wave_x + wave_y[:, None])
        background = _mix(*ends, weight[None])

        # Position of each pixel relative to the center of the shape, wrapped: x is (T, 1, W)
        # and y (T, H, 1), in pixels.
        start = np.array([uniform(0, self.size), uniform(0, self.size)])
        centers = start + self._velocities[motion] * np.arange(self.num_frames or 1)[:, None]
        offsets = self._grid - centers.T[..., None]
        offsets -= self.size * np.rint(offsets / self.size)
        x, y = offsets.astype(np.float32)
        x, y = x[:, None, :], y[:, :, None]

        # A signed distance in pixels, clipped to one pixel, is the covered part of each pixel.
        radius = uniform(*RADIUS) * unit
        distance = list(SHAPES.values())[shape](x / radius, y / radius)
        covered = np.clip(0.5 - distance * radius, 0, 1)
        period = TEXTURE_PERIOD * unit
        phase_x, phase_y = uniform(0, 1), uniform(0, 1)
        distance = list(TEXTURES.values())[texture](x / period + phase_x, y / period + phase_y)
        weight = np.clip(0.5 + distance * period, 0, 1)
        colors = [color(uniform(*DARK)), color(uniform(*BRIGHT))]
        if next(draws) < 0.5:
            colors.reverse()
        clip = background + covered * (_mix(*colors, weight) - background)
        return np.rint(clip).clip(0, 255).astype(np.uint8).reshape(self._sample_shape)


def _mix(first: np.ndarray, second: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Blend two colors, (3,), by a weight in [0, 1], (T, H, W), to (3, T, H, W)."""
    first, second = first[:, None, None, None], second[:, None, None, None]
    return first + (second - first) * weight


def _check_speeds(speeds: Sequence[float]) -> None:
    if not (
        isinstance(speeds, Sequence)
        and 0 < len(speeds) == len(set(speeds))
        and all(isinstance(speed, int | float) and 0 < speed <= MAX_SPEED for speed in speeds)
    ):
        raise ValueError(
            f'speeds must be a sequence of different numbers above 0 and at most {MAX_SPEED} '
            f'(1/32 of a side per frame), but got {speeds!r}'
        )


def _check_int(name: str, value: int, minimum: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f'{name} must be an int, but got {value!r} of type {type(value).__name__}')
    if value < minimum:
        raise ValueError(f'{name} must be at least {minimum}, but got {value}')
