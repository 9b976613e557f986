"""Bring the motion vectors of the codec to the tokens of a clip. All of it is our choice."""

from collections.abc import Sequence

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS

ZERO = 128  # of a channel
UNITS = 1024  # per short side of the frame; a vector reaches an eighth of it


@TRANSFORMS.register_module()
class LoadMotionVectors(BaseTransform):
    """Append the motion vectors of a video to its frames, as two more channels.

    To be placed after decoding (and after LoadContours) and before any change of geometry, which
    then acts on colors and vectors alike; ``PackMotionVectors`` takes them off again. The video is
    decoded a second time for them. Does nothing for a sample without ``with_motion_vectors``: its
    data set does not ask for them.

    Required keys: ``with_motion_vectors`` (set by the data set), ``filename``, ``frame_inds``,
    ``imgs``. Modified key: ``imgs``, (H, W, C + 2) uint8 each. Added key: ``motion_short_side``.

    Raises:
        VideoError: As :class:`bimm_mm.video.motion_vectors.MotionVectorReader`.
    """

    def transform(self, results: dict) -> dict:
        """Append them."""
        if not results.get('with_motion_vectors'):
            return results
        from ...video.motion_vectors import MotionVectorReader

        reader = MotionVectorReader(results['filename'])
        try:
            vectors = reader.get_vectors(np.ravel(results['frame_inds']))
        finally:
            reader.close()
        size = results['imgs'][0].shape[:2]
        short = results['motion_short_side'] = min(size)
        levels = np.rint(vectors * (UNITS / short)).clip(-127, 127) + ZERO
        results['imgs'] = [
            np.dstack([image, _enlarge(level.astype(np.uint8), size)])
            for image, level in zip(results['imgs'], levels, strict=True)
        ]
        return results


def _enlarge(levels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(rows, columns, 2) cells of 8 pixels to (H, W, 2)."""
    large = levels.repeat(8, axis=0).repeat(8, axis=1)
    if large.shape[0] < size[0] or large.shape[1] < size[1]:  # not the size that was coded
        return cv2.resize(large, size[::-1], interpolation=cv2.INTER_NEAREST)
    return large[: size[0], : size[1]]


@TRANSFORMS.register_module()
class PackMotionVectors(BaseTransform):
    """Take the motion vectors off the frames, and average them over each token.

    To be placed after all changes of geometry, Flip included, and before FormatShape.
    ``PackActionInputs`` hands them on, with ``meta_keys=('motion_vectors',)``. Does nothing for a
    sample that LoadMotionVectors left as it was.

    Required keys: ``imgs``, ``motion_short_side``; ``scale_factor``, ``frame_interval``, ``flip``
    and ``flip_direction`` where there are any. Modified key: ``imgs``, without the last two
    channels. Added key: ``motion_vectors``, (T', H', W', 2) float32, in patches to the right and
    down from one token along time to the next, if motion goes on as it is.

    Args:
        patch_size: Frames, rows and columns of a token.

    Raises:
        ValueError: The frames do not consist of whole tokens.
    """

    def __init__(self, patch_size: Sequence[int] = (2, 16, 16)) -> None:
        self.patch_size = tuple(patch_size)

    def transform(self, results: dict) -> dict:
        """Take them off."""
        if 'motion_short_side' not in results:
            return results
        levels = np.stack([image[..., -2:] for image in results['imgs']])  # (T, H, W, 2)
        results['imgs'] = [np.ascontiguousarray(image[..., :-2]) for image in results['imgs']]
        size = levels.shape[:3]
        if any(length % patch for length, patch in zip(size, self.patch_size, strict=True)):
            raise ValueError(f'clips of {size} do not consist of whole {self.patch_size}')
        grid = [length // patch for length, patch in zip(size, self.patch_size, strict=True)]
        cubes = levels.astype(np.float32).reshape(
            grid[0], self.patch_size[0], grid[1], self.patch_size[1], grid[2], self.patch_size[2], 2
        )
        vectors = cubes.mean(axis=(1, 3, 5)) - ZERO
        vectors *= results['motion_short_side'] / UNITS  # pixels of the decoded frame
        vectors *= np.asarray(results.get('scale_factor', (1, 1)), np.float32)[:2]
        vectors /= np.float32(self.patch_size[:0:-1])
        vectors *= float(results.get('frame_interval') or 1) * self.patch_size[0]
        if results.get('flip'):
            vectors[..., 0 if results['flip_direction'] == 'horizontal' else 1] *= -1
        results['motion_vectors'] = vectors
        return results
