"""The checker, training and rewriting take a video for the same thing."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip('av', reason='decodes the videos')

sys.path.insert(0, str(Path(__file__).parent))
import odd_videos  # noqa: E402

from bimm_mm.datasets.transforms.loading import VideoDecode, VideoInit  # noqa: E402
from bimm_mm.datasets.verify import problem_of, verify  # noqa: E402
from bimm_mm.video import open_video  # noqa: E402
from bimm_mm.video.reencode import convert  # noqa: E402
from bimm_mm.visualization.inputs import read_clip  # noqa: E402


@pytest.mark.parametrize('backend', [None, 'decord'])
def test_the_checker_finds_nothing_wrong_with_odd_videos(odd, backend):
    if backend == 'decord':
        pytest.importorskip('decord', reason='is the backend')
    paths = [odd / name for name in odd_videos.VIDEOS]
    problems = dict(zip(odd_videos.VIDEOS, verify(paths, 2, backend=backend), strict=True))
    assert {name: why for name, why in problems.items() if why} == {}


@pytest.mark.parametrize('backend', [None, 'decord'])
@pytest.mark.parametrize('name', odd_videos.VIDEOS)
def test_training_reads_what_the_reader_does(path, name, backend):
    if backend == 'decord':
        pytest.importorskip('decord', reason='is the backend')
    results = VideoInit(backend)(dict(filename=path))
    with_reader = open_video(path)
    assert results['total_frames'] == len(with_reader)
    indices = np.array([len(with_reader) - 1, 0, 0])
    results = VideoDecode()(results | dict(frame_inds=indices))
    assert results['img_shape'] == with_reader.shape
    assert np.array_equal(np.stack(results['imgs']), with_reader.get_batch(indices))


@pytest.mark.parametrize('name', odd_videos.VIDEOS)
def test_a_rewritten_video_looks_as_it_did(path, name, tmp_path):
    new = str(tmp_path / 'new.mp4')
    convert(path, new, short_side=256, gop=8, crf=5, preset='ultrafast')
    before, after = open_video(path), open_video(new)
    assert len(after) == len(before)
    height, width = before.shape
    assert after.shape == (2 * round(height / 2), 2 * round(width / 2))
    if before.shape == after.shape:
        some = range(0, len(before), 5)
        difference = np.abs(before.get_batch(some).astype(int) - after.get_batch(some))
        assert difference.mean() < 9  # of 255; most of it are colors, kept at half the size
    assert after.index.times is not None and after.index.closed and not after.index.discarded


def test_a_rewritten_video_has_a_small_side_and_close_key_frames(odd, tmp_path):
    new = str(tmp_path / 'new.mp4')
    convert(str(odd / 'rotated_90.mp4'), new, short_side=32, gop=8, crf=5, preset='ultrafast')
    video = open_video(new)
    assert video.shape == (48, 32) and len(video.index.keys) == 5
    convert(str(odd / 'plain.mp4'), new, 32, gop=1, crf=2, preset='', codec='mjpeg')
    video = open_video(new)
    assert video.shape == (32, 48) and len(video.index.keys) == len(video) == 40


@pytest.mark.parametrize('name', ['rotated_90.mp4', 'cover_first.mkv', 'late.mkv', 'xvid.avi'])
def test_pictures_show_the_same_frames(path, name):
    video = open_video(path)
    clip = read_clip(path, 2, 3, video.shape, start=4)
    assert np.array_equal(clip.permute(1, 2, 3, 0).numpy(), video.get_batch([4, 7]))


@pytest.mark.parametrize('name', ['plain.mp4', 'h264.mkv', 'mpeg4.avi', 'fast_start.mp4'])
def test_a_file_that_lost_its_end_is_found(odd, tmp_path, name):
    if name == 'fast_start.mp4':
        with (
            av.open(str(odd / 'plain.mp4')) as old,
            av.open(str(odd / name), 'w', options=dict(movflags='faststart')) as new,
        ):
            copy = new.add_stream_from_template(old.streams.video[0])
            for packet in old.demux(video=0):
                if packet.size:
                    packet.stream = copy
                    new.mux(packet)
    data = (odd / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) * 6 // 10])
    problem = problem_of(tmp_path / name)
    if name == 'plain.mp4':  # its index was at the end
        assert problem.startswith('cannot be opened')
    else:
        assert problem.startswith(('truncated: ', 'damaged: ')) and problem.endswith('40 frames')
    with pytest.raises(ValueError, match='cannot be opened|truncated'):
        convert(str(tmp_path / name), str(tmp_path / 'new.mp4'), 256, 8, 5, 'ultrafast')


def test_linked_folders_are_followed_by_all(odd, tmp_path):
    from bimm_mm.apis import find_videos
    from bimm_mm.datasets.verify import list_files

    (tmp_path / 'real').mkdir()
    shutil.copy(odd / 'plain.mp4', tmp_path / 'real')
    (tmp_path / 'videos').mkdir()
    (tmp_path / 'videos' / 'class').symlink_to(tmp_path / 'real')
    shutil.copy(odd / 'plain.mp4', tmp_path / 'videos' / '._plain.mp4')
    assert list(list_files(tmp_path / 'videos').paths()) == ['class/plain.mp4']
    assert find_videos(tmp_path / 'videos') == [tmp_path / 'videos' / 'class' / 'plain.mp4']
