"""Reads the labels of hard clips without learning: a lower bound of what is in the pixels.

    python tests/datasets/hard_clip_reader.py 500

It knows how clips are made: what stands still in the world shows the camera's motion; what moves as
one, and has waves on it, is the object; its mask and its spectrum are compared with those that
exist.
"""

import sys
from pathlib import Path

import numpy as np
from mmengine.config import Config

from bimm_mm.datasets import MovingShapesDataset
from bimm_mm.datasets.moving_shapes import LUMA_WEIGHTS
from bimm_mm.datasets.shape_scenes import WAVELENGTH, WAVES, _covered, make_outlines

BASE = Path(__file__).parents[2] / 'configs/bimm/demo/_base_/hard_clips.py'
CLIPS = dict(Config.fromfile(BASE).hard.to_dict(), num_frames=8, cache=False)
ANGLES = sorted({angle for angles in WAVES.values() for angle in angles})


def moved(image: np.ndarray, x: int, y: int) -> np.ndarray:
    return np.roll(image, (y, x), axis=(-2, -1))


def follow(clip: np.ndarray, velocity: np.ndarray, sign: int) -> np.ndarray:
    """Frames, (..., T, H, W), moved along or against a velocity."""
    shifts = (np.rint(velocity).astype(int) * sign * time for time in range(clip.shape[-3]))
    return np.stack([moved(clip[..., t, :, :], *shift) for t, shift in enumerate(shifts)], axis=-3)


class Reader:
    """For clips of a data set of ``CLIPS``, of 32 pixels."""

    def __init__(self, dataset: MovingShapesDataset) -> None:
        self.motions, self.cameras = dataset._velocities, dataset._camera_velocities
        place = np.arange(32, dtype=np.float32) - 16
        masks = [
            [
                _covered(outline, place[None, None] / r, place[None, :, None] / r, turn, r)[0]
                for turn in np.deg2rad(np.linspace(-1, 1, 11 if dataset.max_turn else 1))
                * dataset.max_turn
                for r in (6.9, 7.3)
            ]
            for outline in make_outlines(dataset.relief).values()
        ]
        self.masks = np.stack(masks)  # (16, variants, 32, 32)
        self.spectra = np.fft.fft2(self.masks).conj()
        y, x = np.meshgrid(np.fft.fftfreq(32), np.fft.fftfreq(32), indexing='ij')
        waves = [np.array([np.cos(a), np.sin(a)]) / WAVELENGTH for a in np.deg2rad(ANGLES)]
        self.bands = np.stack(
            [
                sum(np.exp(-((x - s * k[0]) ** 2 + (y - s * k[1]) ** 2) / 0.0018) for s in (1, -1))
                for k in waves
            ]
        )

    def __call__(self, clip: np.ndarray) -> dict[str, int]:
        """The labels of a clip (3, T, 32, 32)."""
        clip = clip.astype(np.float32)
        camera, world = self.camera(clip)
        motion, mask, light = self.motion(world)
        return dict(
            camera=camera,
            motion=motion,
            shape=self.shape(mask),
            texture=self.texture(mask, light),
        )

    def camera(self, clip: np.ndarray) -> tuple[int, np.ndarray]:
        """The velocity against which most of the picture stands still, and the clip so moved."""
        worlds = [follow(clip, velocity, 1) for velocity in self.cameras]
        changes = [np.abs(np.diff(world, axis=1)).sum(0) for world in worlds]
        best = int(np.argmin([np.median(change) + 1e-3 * change.mean() for change in changes]))
        return best, worlds[best]

    def motion(self, world: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
        """The velocity of what has the strongest texture; its mask and luminance (32, 32)."""
        moving = np.abs(world - np.median(world, axis=1)[:, None]).sum(0) > 25
        found = []
        for velocity in self.motions:
            clip = follow(world, velocity, -1)
            middle = np.median(clip, axis=1)
            same = (np.abs(clip - middle[:, None]).sum(0) < 20).mean(0)
            mask = (same > 0.6) & (follow(moving, velocity, -1).mean(0) > 0.6)
            light = np.tensordot(LUMA_WEIGHTS, middle, 1)
            around = [moved(light, *shift) for shift in ((1, 0), (-1, 0), (0, 1), (0, -1))]
            found.append(((np.abs(4 * light - sum(around)) * inside(mask)).sum(), mask, light))
        best = int(np.argmax([score for score, *_ in found]))
        return best, *found[best][1:]

    def shape(self, mask: np.ndarray) -> int:
        """The outline that covers the mask best, wherever it is."""
        common = np.fft.ifft2(np.fft.fft2(mask) * self.spectra).real.max((2, 3))
        cover = common / (self.masks.sum((2, 3)) + mask.sum() - common)
        return int(cover.max(1).argmax())

    def texture(self, mask: np.ndarray, light: np.ndarray) -> int:
        """One wave, or two where the second is nearly as strong and makes a grid with the first."""
        inner = inside(mask)
        light = (light - light[inner].mean()) * inner if inner.any() else 0 * light
        power = (np.abs(np.fft.fft2(light)) ** 2 * self.bands).sum((1, 2))
        first, second = np.argsort(power)[::-1][:2]
        both = tuple(sorted((ANGLES[first], ANGLES[second])))
        grid = both in WAVES.values() and power[second] > 0.35 * power[first]
        return list(WAVES.values()).index(both if grid else (ANGLES[first],))


def inside(mask: np.ndarray) -> np.ndarray:
    """The mask without its rim."""
    neighbors = [moved(mask, *shift) for shift in ((1, 0), (-1, 0), (0, 1), (0, -1))]
    return mask & np.logical_and.reduce(neighbors)


def accuracies(count: int, seed: int = 5) -> dict[str, float]:
    """Share of the clips whose labels are read right."""
    dataset = MovingShapesDataset(length=count, seed=seed, **CLIPS)
    reader = Reader(dataset)
    read = [reader(dataset[index]['inputs'].numpy()) for index in range(count)]
    return {
        label: float(np.mean([found[label] for found in read] == values))
        for label, values in dataset.labels.items()
    }


if __name__ == '__main__':
    for label, share in accuracies(int(sys.argv[1])).items():
        print(f'{label:8s} {100 * share:.1f} %')
