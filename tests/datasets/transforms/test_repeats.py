import numpy as np
import pytest
import torch

from bimm_mm.datasets.transforms.repeats import concatenate


@pytest.mark.parametrize('axes', [(3, 0, 1, 2), (0, 1, 2, 3), (1, 3, 0, 2)])
def test_clips_are_concatenated_without_moving_their_axes_in_memory(axes):
    """As FormatShape leaves them, channels last, for one."""
    frames = np.random.default_rng(0).integers(255, size=(2, 4, 5, 3), dtype=np.uint8)
    clips = [torch.from_numpy(frames + number).permute(axes) for number in range(3)]
    parts = [clip.reshape(-1, *clip.shape) for clip in clips]
    whole = concatenate(parts)
    assert torch.equal(whole, torch.cat(parts))
    assert whole.stride() == (120, *clips[0].stride())
    assert torch.equal(concatenate([torch.cat(parts[:2]), parts[2]]), whole)
