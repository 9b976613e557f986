import numpy as np
import pytest
import torch

from bimm_mm.codes.cache import CodeCacheError, View, write_manifest
from bimm_mm.datasets import ClipViewsDataset, CodeClipsDataset, MovingShapesDataset
from bimm_mm.datasets.clip_views import draw_starts, jitter_colors


def test_clips_begin_anywhere_and_independently():
    torch.manual_seed(0)
    pairs = [draw_starts(10, 5, 2) for _ in range(2000)]
    first, second = np.array(pairs).T
    assert np.bincount(first).tolist() == pytest.approx([2000 / 6] * 6, rel=0.2)
    assert np.bincount(second).tolist() == pytest.approx([2000 / 6] * 6, rel=0.2)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.1
    assert draw_starts(3, 5, 2) == [0, 0]


def test_the_distance_of_clips_can_be_limited():
    torch.manual_seed(0)
    pairs = np.array([draw_starts(20, 5, 2, max_distance=2) for _ in range(1000)])
    distance = pairs[:, 1] - pairs[:, 0]
    assert sorted(set(distance)) == [-2, -1, 0, 1, 2] and pairs.min() == 0 and pairs.max() == 15
    assert {tuple(draw_starts(20, 5, 2, 0)) for _ in range(50)} <= {(i, i) for i in range(16)}


def clip_views(**kwargs):
    source = dict(type='MovingShapesDataset', length=4, num_frames=8)
    return ClipViewsDataset(source, **kwargs)


def test_clips_are_cut_out_of_one_video():
    dataset = clip_views(num_frames=3)
    whole = MovingShapesDataset(length=4, num_frames=8)
    torch.manual_seed(0)
    starts = set()
    for _ in range(30):
        sample, video = dataset[2], whole[2]['inputs']
        assert sample['inputs'].shape == (2, 3, 3, 32, 32)
        for clip in sample['inputs']:
            found = [s for s in range(6) if torch.equal(video[:, s : s + 3], clip)]
            assert len(found) == 1
            starts.add(found[0])
    assert starts == set(range(6))
    assert sample['data_samples'].num_valid_frames == 3
    assert sample['data_samples'].motion == whole[2]['data_samples'].motion


def test_short_videos_say_where_they_end():
    sample = clip_views(num_frames=11)[0]
    assert sample['inputs'].shape == (2, 3, 11, 32, 32)
    assert sample['data_samples'].num_valid_frames == 8
    with pytest.raises(ValueError, match='num_frames=0'):
        clip_views(num_frames=0)


@pytest.fixture
def cache(tmp_path):
    """Video 'n.mp4' has n frames; the code of frame t in view v is 100 v + t."""
    views = [View(16, crop, 16, flip) for crop in ('top', 'bottom') for flip in (False, True)]
    tokenizer = dict(type='PatchTokenizer', sha256='0', num_codes=900, factor=8)
    cache = write_manifest(tmp_path / 'codes', tokenizer, 16, views)
    for frames in (3, 20):
        codes = 100 * np.arange(4)[:, None] + np.arange(frames)
        codes = np.broadcast_to(codes[..., None, None], (4, frames, 2, 2))
        cache.write(f'{frames}.mp4', codes.astype(np.uint16))
    return cache


def test_clips_of_codes_are_padded_where_the_video_ends(cache):
    dataset = CodeClipsDataset(str(cache.root), num_frames=5, views=dict(crop='top', flip=False))
    assert [name for name, _ in dataset.videos] == ['20.mp4', '3.mp4']
    clips = dataset[1]['inputs']
    assert clips.dtype == torch.int64 and clips[:, :, 0, 0].tolist() == [[0, 1, 2, 901, 901]] * 2
    torch.manual_seed(0)
    starts = set()
    for _ in range(200):
        for clip in dataset[0]['inputs'][:, :, 0, 0].tolist():
            assert clip == list(range(clip[0], clip[0] + 5))
            starts.add(clip[0])
    assert starts == set(range(16))


def test_every_clip_draws_a_view_and_takes_every_nth_frame(cache):
    dataset = CodeClipsDataset(str(cache.root), num_frames=3, frame_interval=4, num_clips=1)
    torch.manual_seed(0)
    clips = [dataset[0]['inputs'][0, :, 0, 0] for _ in range(100)]
    assert {int(clip[0]) // 100 for clip in clips} == {0, 1, 2, 3}
    assert all((clip.diff() == 4).all() for clip in clips)


def test_testing_takes_all_views_at_equal_distances(cache, tmp_path):
    (tmp_path / 'list.txt').write_text('20.mp4 7\n\n3.mp4 1\n')
    dataset = CodeClipsDataset(
        str(cache.root),
        str(tmp_path / 'list.txt'),
        num_frames=5,
        num_clips=4,
        views=dict(flip=False),
        test_mode=True,
    )
    sample = dataset[0]
    assert sample['data_samples'].gt_label.tolist() == [7]
    first = sample['inputs'][:, 0, 0, 0].tolist()
    assert first == [0, 200, 5, 205, 10, 210, 15, 215]
    (tmp_path / 'list.txt').write_text('20.mp4 7\nother.mp4 1\n')
    with pytest.raises(CodeCacheError, match="no codes of 1 of 2 videos, as 'other.mp4'"):
        CodeClipsDataset(str(cache.root), str(tmp_path / 'list.txt'))


def test_the_light_changes_from_clip_to_clip():
    clips = torch.full((2, 3, 4, 8, 8), 100, dtype=torch.uint8)
    assert jitter_colors(clips, 0.0) is clips
    torch.manual_seed(0)
    changed = jitter_colors(clips, 0.2)
    assert changed.dtype == torch.uint8
    levels = changed.flatten(2).float()
    assert (levels == levels[..., :1]).all()  # a clip's channel changes as a whole
    # by at most 0.2 x 27.5 about gray, and 0.1 x 255
    assert len(levels[..., 0].unique()) > 3 and (levels - 100).abs().max() <= 31.5
    with pytest.raises(ValueError, match=r'color_jitter=1 must be in \[0, 1\)'):
        clip_views(color_jitter=1)
