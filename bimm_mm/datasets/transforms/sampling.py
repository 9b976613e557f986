"""Which frames of a video make a clip."""

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS

UNKNOWN_FPS = 25.0  # taken for that of a video that does not say it


@TRANSFORMS.register_module()
class SampleAtRate(BaseTransform):
    """Sample consecutive frames at a fixed rate, anywhere in the video (VIMPAC, appendix C.1).

    A video that has fewer frames at this rate gives a clip that begins with it and repeats its
    last frame; ``num_valid_frames`` says where it ends, for VIMPAC to put PAD there.

    Required keys: ``total_frames``, ``avg_fps``. Added keys: ``frame_inds``, ``clip_len``,
    ``frame_interval``, ``num_clips`` and ``num_valid_frames``.

    Args:
        num_frames: Frames of the clip, T.
        fps: Frames per second.

    Raises:
        ValueError: If an argument is not positive.
    """

    def __init__(self, num_frames: int = 5, fps: float = 2.0) -> None:
        if num_frames < 1 or fps <= 0:
            raise ValueError(f'num_frames={num_frames} and fps={fps} must be positive')
        self.num_frames, self.fps = num_frames, fps

    def transform(self, results: dict) -> dict:
        """Add the frames."""
        total = results['total_frames']
        step = (results.get('avg_fps') or UNKNOWN_FPS) / self.fps
        count = max(int(np.ceil(total / step - 1e-6)), 1)  # frames that there are at this rate
        start = int(torch.randint(max(count - self.num_frames, 0) + 1, ()))
        frames = ((start + np.arange(self.num_frames)) * step).astype(int)
        results['num_valid_frames'] = min(self.num_frames, count)
        frames[results['num_valid_frames'] :] = frames[results['num_valid_frames'] - 1]
        results['frame_inds'] = np.minimum(frames, total - 1) + results.get('start_index', 0)
        results['clip_len'] = self.num_frames
        results['frame_interval'] = max(round(step), 1)
        results['num_clips'] = 1
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(num_frames={self.num_frames}, fps={self.fps})'
