"""What a video is: one answer, for every backend and every kind of file (docs/videos.md)."""

import random
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip('av', reason='decodes the videos')

sys.path.insert(0, str(Path(__file__).parent))
import odd_videos  # noqa: E402
from odd_videos import CLIPS  # noqa: E402

from bimm_mm.video import UnsupportedVideo, VideoError, open_video  # noqa: E402
from bimm_mm.video.pyav import LENIENT  # noqa: E402

TIMEOUT = 60.0


# Frames of each film where it is not all that the recipe makes.
COUNTS = {
    'variable_rate.mp4': 14,
    'dropped.avi': 14,
    'edit_list.mp4': 17,  # from 0.9 s on: what the cut was to hide is hidden
    'edit_list_with_sound.mp4': 17,
    'negative_times.mkv': None,  # asked of ffmpeg
    'one_key_frame.mp4': 200,
    'two_films.mp4': 50,
    'one_frame.mp4': 1,
    'one_frame.avi': 1,
    'xvid.avi': None,
    'h263.3gp': 40,
    'vp8_hidden.webm': 75,
    'two_sizes.h264': 80,
}


@cache
def in_one_pass(path: str, stream: int, size: tuple[int, int], turns: int) -> list[np.ndarray]:
    """All frames as PyAV decodes them from the first to the last, without any seeking."""
    with av.open(f'file:{path}', **LENIENT) as container:
        frames = list(container.decode(container.streams[stream]))
        if frames[0].interlaced_frame:
            graph = av.filter.Graph()
            nodes = [graph.add_buffer(template=container.streams[stream])]
            nodes += [graph.add('setfield', 'prog'), graph.add('buffersink')]
            graph.link_nodes(*nodes).configure()
            frames = [graph.push(frame) or graph.pull() for frame in frames]
        frames = [frame.reformat(*size, 'rgb24').to_ndarray() for frame in frames]
    return [np.rot90(frame, turns) for frame in frames]


def by_ffmpeg(ffmpeg: str, path: str, shape: tuple[int, int]) -> np.ndarray:
    """All frames as the ffmpeg command gives them, which turns them and chooses the stream."""
    command = [ffmpeg, '-nostdin', '-v', 'quiet', '-i', f'file:{path}', '-an']
    command += ['-fps_mode', 'passthrough', '-sws_flags', 'bilinear']
    command += ['-f', 'rawvideo', '-pix_fmt', 'rgb24', '-']
    result = subprocess.run(command, stdout=subprocess.PIPE)
    return np.frombuffer(result.stdout, np.uint8).reshape(-1, *shape, 3)


# Mean difference, of 255: 10 bits are rounded in other ways, and the second of two sizes is scaled
# in other ways.
TOLERANCES = {'ten_bits.mp4': 5, 'ten_bits_hevc.mp4': 5, 'prores.mov': 5, 'two_sizes.h264': 5}


@pytest.mark.parametrize('name', [*odd_videos.VIDEOS, *CLIPS])
def test_frames_are_those_of_ffmpeg(ffmpeg, path, name):
    video = open_video(path, 'pyav')
    frames = by_ffmpeg(ffmpeg, path, video.shape)
    made = None if name in CLIPS else COUNTS.get(name, odd_videos.FRAMES)
    assert len(video) == len(frames) and made in (None, len(frames))
    some = range(0, len(frames), 1 if len(frames) < 100 else 20)
    difference = np.abs(frames[some].astype(np.int16) - video.get_batch(some))
    assert difference.mean() < TOLERANCES.get(name, 0.05)


class VideoContract:
    """To be inherited by a class for each backend."""

    backend = 'pyav'
    timeout: float | None = None
    refused: frozenset[str] = frozenset()

    def open(self, path: str):
        return open_video(path, self.backend, timeout=self.timeout)

    @pytest.mark.parametrize('name', [*odd_videos.VIDEOS, *CLIPS])
    def test_frames_are_those_of_one_pass(self, path, name):
        reference = open_video(path, 'pyav')
        index = reference.index
        reference.close()
        if name in self.refused:
            with pytest.raises(UnsupportedVideo, match=rf'^{self.backend} cannot .*; pyav can'):
                self.open(path)
            return
        video = self.open(path)
        frames = in_one_pass(path, index.stream, index.size, index.turns)
        assert (len(video), video.shape) == (len(frames), frames[0].shape[:2])
        assert video.backend == self.backend
        if len(frames) < 100:
            assert np.array_equal(video.get_batch(range(len(video))), np.stack(frames))
        chance = random.Random(0)
        for _ in range(8):  # in any order, also several times, across key frames
            indices = [chance.randrange(len(video)) for _ in range(chance.randint(1, 5))]
            wanted = np.stack([frames[index] for index in indices])
            assert np.array_equal(video.get_batch(indices), wanted), indices
        video.close()

    @pytest.mark.parametrize('name', ['plain.mp4'])
    def test_a_batch_is_an_array_of_its_own(self, path, name):
        video = self.open(path)
        frames = video.get_batch([7, 3, 7])
        assert frames.dtype == np.uint8 and frames.shape == (3, 64, 96, 3)
        frames[0] = 0  # as transforms do that work in place
        assert frames[2].any() and video.get_batch([7]).any()
        assert video.get_batch([]).shape == (0, 64, 96, 3)
        assert video.fps == 25
        for indices in ([0, 40], [-1]):
            with pytest.raises(IndexError, match='of a video of 40'):
                video.get_batch(indices)

    def test_what_is_no_video_is_told(self, odd, tmp_path):
        (tmp_path / 'text.mp4').write_text('no video')
        (tmp_path / 'empty.mp4').touch()
        for name, reason in (('text', r'cannot be opened \(.+\)'), ('empty', 'empty file')):
            with pytest.raises(VideoError, match=reason):
                self.open(str(tmp_path / f'{name}.mp4'))
        with pytest.raises(FileNotFoundError):
            self.open(str(tmp_path / 'gone.mp4'))
        with pytest.raises(IsADirectoryError):
            self.open(str(tmp_path))
        with pytest.raises(VideoError, match='no video stream, only a cover picture'):
            self.open(str(odd / 'song.mp4'))
        (tmp_path / 'picture.mp4').write_bytes((odd / 'cover.png').read_bytes())
        with pytest.raises(VideoError, match='a picture, not a video'):
            self.open(str(tmp_path / 'picture.mp4'))


class TestPyav(VideoContract):
    pass


class TestIsolatedPyav(VideoContract):
    timeout = TIMEOUT


class TestDecord(VideoContract):
    backend = 'decord'
    # files of which decord gives other frames, or none
    refused = frozenset(
        'edit_list.mp4 edit_list_with_sound.mp4 negative_times.mkv dropped.avi raw.h264 '
        'open_gop.mp4 open_gop_hevc.mp4 intra_refresh.mp4 b_frames.avi xvid.avi mpeg4.avi '
        'mjpeg.avi uncompressed.avi wmv2.wmv vp8_hidden.webm av1.mp4 av1.webm animation.gif '
        'mpeg2.mpg mpeg1.mpg mpeg2.ts h264.ts theora.ogv prores.mov streamed.mkv live.webm '
        'ten_bits.mp4 ten_bits_hevc.mp4 odd_size.mp4 odd_size.webm tiny.avi interlaced.mpg '
        'two_films.mp4 cover_first.mkv one_frame.avi tag_not_utf8.avi '
        'two_sizes.h264 caf\udce9.mp4'.split()
    )

    @pytest.fixture(autouse=True)
    def needs_decord(self):
        pytest.importorskip('decord', reason='is the backend')


class TestTorchcodec(VideoContract):
    backend = 'torchcodec'
    # files of which torchcodec gives other frames, or none
    refused = frozenset(
        'negative_times.mkv raw.h264 open_gop.mp4 open_gop_hevc.mp4 intra_refresh.mp4 b_frames.avi '
        'xvid.avi mpeg4.avi mpeg2.mpg mpeg1.mpg mpeg2.ts h264.ts interlaced.mpg ten_bits.mp4 '
        'ten_bits_hevc.mp4 vp8_hidden.webm two_sizes.h264 caf\udce9.mp4 odd_size.mp4 odd_size.webm '
        'dropped.avi tiny.avi one_frame.avi tag_not_utf8.avi'.split()
    )

    @pytest.fixture(autouse=True)
    def needs_torchcodec(self):
        pytest.importorskip('torchcodec', reason='is the backend')
        try:
            import torchcodec.decoders  # noqa: F401
        except (ImportError, OSError, RuntimeError) as error:
            pytest.skip(f'torchcodec cannot be imported: {error}'.partition('\n')[0])
