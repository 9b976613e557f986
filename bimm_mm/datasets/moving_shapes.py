"""Generated clips of textured shapes that move: data with nothing to download.

Everything in this file is our choice; the paper trains on real data only.
"""

from collections.abc import Sequence

import numpy as np
import torch
from mmengine.registry import DATASETS
from mmengine.structures import BaseDataElement
from torch.utils.data import Dataset

from .clip_cache import ClipCache
from .shape_fields import SHAPES, TEXTURES
from .shape_scenes import (
    CHROMA,
    DESIGN_SIZE,
    LUMA_WEIGHTS,
    RELIEF,
    VERSION,
    WAVES,
    Scene,
    make_outlines,
)

# Lengths are in "design pixels", of which a frame has 32 per side whatever its real size.
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

# Compass names for the directions, y pointing down as in images.
DIRECTION_NAMES = {
    4: ('right', 'down', 'left', 'up'),
    8: ('right', 'down-right', 'down', 'down-left', 'left', 'up-left', 'up', 'up-right'),
}


# What stands before and behind the shape in a caption.
TEXTURES_IN_WORDS = {
    'horizontal stripes': ('', ' with horizontal stripes'),
    'vertical stripes': ('', ' with vertical stripes'),
    'checker': ('checkered ', ''),
    'dots': ('dotted ', ''),
}

STILL = 'still'  # the motion of a camera
SHAPE_SETS = dict(simple=lambda relief: SHAPES, outlines=make_outlines)
TEXTURE_SETS = dict(edges=TEXTURES, waves=WAVES)


@DATASETS.register_module()
class MovingShapesDataset(Dataset):
    """Textured shapes that move over a smooth static background, made on demand.

    Arguments make it harder: ``shapes``, ``textures``, ``camera_speeds``, ``distractors`` and
    ``occluders``. With any of them, scenes are those of :mod:`.shape_scenes`: smaller objects of
    any orientation, and a background with structure of its own.

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
            The cache is shared with forked DataLoader workers; spawned workers start their own. The
            path of a folder keeps them in a file of it, for later runs, too.
        captions: Whether samples have a true caption, as 'a dotted star moves left, fast'.
        shapes: 'simple', the six; or 'outlines', 16 of one area, mean radius and spread of the
            radius: stars, flowers, gears and pinwheels of three to six parts.
        textures: 'edges', the four; or 'waves', six of one contrast and wavelength: waves in four
            directions, and two grids of two of them.
        camera_speeds: Speeds of a camera that moves in any of ``directions``, in the units of
            ``speeds``, 0 for one that stands still. The label ``camera`` is its motion. All things
            then move against it in the picture, and ``motion`` stays that of the object in the
            world. Empty: it stands still, and there is no such label.
        distractors: Objects behind the one that the labels are of. They have its shapes, colors and
            speeds, drawn at random, and no texture: that is how it is told from them.
        occluders: Posts and beams in front, which stand still in the world.
        max_turn: Objects are turned by a random angle up to it either way, in degrees; counts where
            one of the arguments above is given.
        relief: How far outlines are from a disc: the standard deviation of the radius, relative to
            its mean, above 0 and at most 0.4.
        clutter: How far distractors and occluders stand out from the background: 1 as far as the
            object and as black posts, 0 not at all.

    Raises:
        TypeError: If an argument that is a number is no integer.
        ValueError: If an argument is outside its range.
        MemoryError: If the cache cannot be allocated.

    Each sample is a dict:

    - ``inputs`` (torch.uint8): RGB, (3, T, size, size), or (3, size, size) for images.
    - ``data_samples`` (BaseDataElement): ``motion``, ``shape``, ``texture`` and ``sample_idx``,
      all int; with ``camera_speeds`` also ``camera``, with ``captions`` also ``caption``, a text.
    """

    def __init__(
        self,
        length: int,
        seed: int = 0,
        size: int = 32,
        num_frames: int | None = 8,
        directions: int = 4,
        speeds: Sequence[float] = (1.0, 2.5),
        cache: bool | str = True,
        captions: bool = False,
        shapes: str = 'simple',
        textures: str = 'edges',
        camera_speeds: Sequence[float] = (),
        distractors: int = 0,
        occluders: int = 0,
        max_turn: float = 180.0,
        relief: float = RELIEF,
        clutter: float = 1.0,
    ) -> None:
        _check_int('length', length, minimum=1)
        _check_int('seed', seed, minimum=0)
        _check_int('size', size, minimum=16)
        if num_frames is not None:
            _check_int('num_frames', num_frames, minimum=1)
        if directions not in DIRECTION_NAMES:
            raise ValueError(f'directions must be 4 or 8, but got {directions!r}')
        _check_speeds('speeds', speeds)
        _check_speeds('camera_speeds', camera_speeds, may_stand=True)
        _check_int('distractors', distractors, minimum=0)
        _check_int('occluders', occluders, minimum=0)
        self.length, self.seed, self.size, self.num_frames = length, seed, size, num_frames
        self.captions, self.speeds, self.camera_speeds = captions, tuple(speeds), camera_speeds
        if not 0 <= max_turn <= 180:
            raise ValueError(f'max_turn must be 0 to 180 degrees, but got {max_turn!r}')
        if not 0 < relief <= 0.4:
            raise ValueError(f'relief must be above 0 and at most 0.4, but got {relief!r}')
        if not 0 <= clutter <= 1:
            raise ValueError(f'clutter must be 0 to 1, but got {clutter!r}')
        self.distractors, self.occluders, self.max_turn = distractors, occluders, max_turn
        self.clutter = clutter
        _check_choice('shapes', shapes, SHAPE_SETS)
        _check_choice('textures', textures, TEXTURE_SETS)
        self.textures, self.shapes, self.relief = textures, shapes, relief
        self._plain = (shapes, textures, tuple(camera_speeds), distractors, occluders) == (
            *('simple', 'edges', (), 0, 0),
        )
        motions, self._velocities = _motions(directions, speeds, size)
        self.metainfo = dict(
            motion_classes=motions,
            shape_classes=tuple(SHAPE_SETS[shapes](relief)),
            texture_classes=tuple(TEXTURE_SETS[textures]),
        )
        if camera_speeds:
            names, self._camera_velocities = _motions(directions, camera_speeds, size)
            self.metainfo['camera_classes'] = names
        counts = [len(classes) for classes in self.metainfo.values()]
        order = np.argsort(self._draw(0, np.prod(counts), stream=1))
        combination = order[np.arange(length) % len(order)]
        values = np.unravel_index(combination, counts)
        #: dict[str, np.ndarray]: Labels of all samples, (length,) each, without rendering.
        self.labels = {
            name.removesuffix('_classes'): value
            for name, value in zip(self.metainfo, values, strict=True)
        }
        frames = (num_frames,) if num_frames is not None else ()
        self._sample_shape = (3, *frames, size, size)
        self._grid = np.arange(size, dtype=np.float32) + 0.5
        described = dict(
            seed=seed,
            size=size,
            frames=num_frames,
            velocities=[self._velocities, getattr(self, '_camera_velocities', None)],
            scene=[VERSION, shapes, textures, distractors, occluders, max_turn, relief, clutter],
        )
        self._keep, self._described = cache, described
        self._cache = self._allocate_cache()

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
        render = self._render if self._plain else self._render_scene
        if self._cache is None:
            pixels = render(index, **labels)
        else:
            pixels = self._cache.get(index, lambda: render(index, **labels))
        metainfo = dict(caption=self.describe(**labels)) if self.captions else None
        sample = BaseDataElement(metainfo=metainfo, **labels, sample_idx=index)
        return dict(inputs=torch.from_numpy(pixels), data_samples=sample)

    def describe(self, motion: int, shape: int, texture: int, camera: int | None = None) -> str:
        """The caption of clips with these labels; without their motion for images."""
        name = self.metainfo['texture_classes'][texture]
        looks = TEXTURES_IN_WORDS.get(name, ('', f' with {name}'))
        text = f'a {looks[0]}{self.metainfo["shape_classes"][shape]}{looks[1]}'
        if self.num_frames is None:
            return text
        text = f'{text} moves {_in_words(self.metainfo["motion_classes"][motion], self.speeds)}'
        if camera is None:
            return text
        name = self.metainfo['camera_classes'][camera]
        if name == STILL:
            return f'{text}; the camera stands still'
        return f'{text}; the camera moves {_in_words(name, self.camera_speeds)}'

    def __getstate__(self) -> dict:
        # Shared memory survives a fork but not pickling.
        return {**self.__dict__, '_cache': None}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._cache = self._allocate_cache()

    def _allocate_cache(self) -> ClipCache | None:
        if not self._keep:
            return None
        folder = None if self._keep is True else self._keep
        try:
            return ClipCache((self.length, *self._sample_shape), folder, self._described)
        except MemoryError as error:
            num_bytes = self.length * (1 + int(np.prod(self._sample_shape)))
            raise MemoryError(
                f'cache=True needs {num_bytes / 2**30:.1f} GiB for length={self.length}, '
                f'size={self.size}, num_frames={self.num_frames}; use cache=False'
            ) from error

    def _draw(self, index: int, count: int, stream: int = 0) -> np.ndarray:
        # A counter-based generator gives each index its own numbers, in any order.
        bits = np.random.Philox(key=[self.seed, stream], counter=[0, 0, 0, index])
        return np.random.Generator(bits).random(count)

    def _render_scene(
        self, index: int, motion: int, shape: int, texture: int, camera: int | None = None
    ) -> np.ndarray:
        """Draw one clip or image, as :meth:`_render`, that is not plain."""
        bits = np.random.Philox(key=[self.seed, 2], counter=[0, 0, 0, index])
        random = np.random.Generator(bits)
        outlines = list(SHAPE_SETS[self.shapes](self.relief).values())
        still = np.zeros(2)
        scene = Scene(
            size=self.size,
            num_frames=self.num_frames or 1,
            shape=outlines[shape],
            texture=list(TEXTURE_SETS[self.textures].values())[texture],
            velocity=self._velocities[motion],
            camera=still if camera is None else self._camera_velocities[camera],
            others=[
                self._velocities[random.integers(len(self._velocities))]
                for _ in range(self.distractors)
            ],
            outlines=[outlines[random.integers(len(outlines))] for _ in range(self.distractors)],
            occluders=self.occluders,
            max_turn=self.max_turn,
            clutter=self.clutter,
        )
        return scene.render(random).reshape(self._sample_shape)

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


def _motions(
    directions: int, speeds: Sequence[float], size: int
) -> tuple[tuple[str, ...], np.ndarray]:
    """Names of motions, and their velocities (motions, 2), x and y in pixels per frame."""
    angles = 2 * np.pi * np.arange(directions) / directions
    units = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    moving = [speed for speed in speeds if speed > 0]  # speeds vary fastest
    velocities = (units[:, None] * np.array(moving)[:, None]).reshape(-1, 2)
    names = [f'{name} at {speed:g}' for name in DIRECTION_NAMES[directions] for speed in moving]
    if len(moving) < len(speeds):
        names, velocities = [STILL, *names], np.concatenate([np.zeros((1, 2)), velocities])
    return tuple(names), velocities * (size / DESIGN_SIZE)


def _in_words(motion: str, speeds: Sequence[float]) -> str:
    """A motion class as in a caption."""
    direction, speed = motion.split(' at ')
    moving = [f'{known:g}' for known in sorted(speeds) if known > 0]
    words = {1: [''], 2: [', slowly', ', fast']}.get(len(moving))
    return f'{direction}{words[moving.index(speed)] if words else f", at speed {speed}"}'


def _check_choice(argument: str, name: str, known: dict[str, dict]) -> None:
    if name not in known:
        raise ValueError(f'{argument} must be {" or ".join(map(repr, known))}, but got {name!r}')


def _check_speeds(name: str, speeds: Sequence[float], may_stand: bool = False) -> None:
    if not (
        isinstance(speeds, Sequence)
        and (may_stand or len(speeds) > 0)
        and len(speeds) == len(set(speeds))
        and all(isinstance(speed, int | float) for speed in speeds)
        and all(0 < speed <= MAX_SPEED or may_stand and speed == 0 for speed in speeds)
    ):
        raise ValueError(
            f'{name} must be a sequence of different numbers '
            f'{"of 0 or more" if may_stand else "above 0"} and at most {MAX_SPEED} '
            f'(1/32 of a side per frame), but got {speeds!r}'
        )


def _check_int(name: str, value: int, minimum: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f'{name} must be an int, but got {value!r} of type {type(value).__name__}')
    if value < minimum:
        raise ValueError(f'{name} must be at least {minimum}, but got {value}')
