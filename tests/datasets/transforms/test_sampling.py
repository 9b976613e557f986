import numpy as np
import pytest
import torch

from bimm_mm.datasets.transforms import SampleAtRate


def sample(total, video_fps, **kwargs):
    return SampleAtRate(**kwargs).transform(dict(total_frames=total, avg_fps=video_fps))


def test_frames_are_taken_at_the_rate_from_anywhere_in_the_video():
    torch.manual_seed(0)
    starts = set()
    for _ in range(300):
        results = sample(100, 10.0, num_frames=5, fps=2)
        frames = results['frame_inds']
        assert np.diff(frames).tolist() == [5] * 4 and frames[-1] < 100
        assert results['num_valid_frames'] == 5
        starts.add(frames[0])
    assert starts == set(range(0, 80, 5))


def test_a_short_video_says_where_it_ends():
    results = sample(12, 10.0, num_frames=5, fps=2)
    assert results['frame_inds'].tolist() == [0, 5, 10, 10, 10]
    assert results['num_valid_frames'] == 3
    assert sample(1, 0.0, num_frames=2, fps=2)['num_valid_frames'] == 1
    with pytest.raises(ValueError, match='fps=0 must be positive'):
        SampleAtRate(fps=0)
