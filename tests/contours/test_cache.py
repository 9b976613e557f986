"""Which samples a cache belongs to: their names and sizes."""

import numpy as np
import pytest

from bimm_mm.contours.cache import ContourCache, sample_key
from bimm_mm.contours.format import SUFFIX, ContourCacheError, image_file_name
from bimm_mm.contours.writer import ContourWriter, write_manifest

CONTOUR = np.eye(64, 114, dtype=bool)


def write_video(root, size, num_frames=60):
    write_manifest(root, 'videos', {})
    header = dict(
        kind='videos', num_frames=num_frames, height=size[0], width=size[1], stride=60, made_by={}
    )
    with ContourWriter(root / f'a.mp4{SUFFIX}', header, 1) as writer:
        writer.add(CONTOUR, size)
        writer.finish()
    return ContourCache(root)


# rewriting a video keeps its shape up to rounding, and makes both sides even
@pytest.mark.parametrize(
    'made_of, now',
    [
        ((720, 1280), (256, 456)),
        ((480, 640), (256, 342)),
        ((256, 456), (720, 1280)),
        ((241, 321), (240, 320)),
        ((1080, 1920), (1080, 1920)),
    ],
)
def test_a_video_that_was_rewritten_at_another_size_keeps_its_contours(tmp_path, made_of, now):
    contour = write_video(tmp_path, made_of).frames('a.mp4', [0], 60, now)[0]
    assert np.array_equal(contour, CONTOUR)


@pytest.mark.parametrize(
    'now, num_frames',
    [((456, 256), 60), ((256, 342), 60), ((256, 460), 60), ((720, 1280), 59), ((720, 1276), 60)],
)
def test_a_video_of_another_shape_or_length_does_not_fit(tmp_path, now, num_frames):
    cache = write_video(tmp_path, (720, 1280))
    text = f'60 frames of 720x1280 pixels, but it has {num_frames} frames of {now[0]}x{now[1]}'
    with pytest.raises(ContourCacheError, match=text):
        cache.frames('a.mp4', [0], num_frames, now)


def test_an_image_that_was_shrunk_keeps_its_contour_and_one_that_was_turned_does_not(tmp_path):
    write_manifest(tmp_path, 'images', {}, num_files=1, num_images=1)
    header = dict(kind='images', names=['a.jpg'], made_by={})
    with ContourWriter(tmp_path / image_file_name('a.jpg', 1), header, 1) as writer:
        writer.add(CONTOUR, (720, 1280))
        writer.finish()
    cache = ContourCache(tmp_path)
    assert np.array_equal(cache.image('a.jpg', (360, 640)), CONTOUR)
    with pytest.raises(ContourCacheError, match='720x1280 pixels, but it has 1280x720'):
        cache.image('a.jpg', (1280, 720))


def test_a_key_is_below_the_folder_however_the_path_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in ('videos/a/b.mp4', 'videos/./a/c/../b.mp4', str(tmp_path / 'videos/a/b.mp4')):
        assert sample_key(path, 'videos') == 'a/b.mp4'
    assert sample_key('a/b.mp4', '') == 'a/b.mp4'
    assert sample_key('videos/..a.mp4', 'videos') == '..a.mp4'
    for path in ('other/b.mp4', 'videos/../b.mp4', '/b.mp4'):
        with pytest.raises(ValueError, match='b.mp4.* is not below the folder .*videos'):
            sample_key(path, 'videos')


def test_a_name_that_is_not_utf8_has_a_file():
    assert image_file_name('caf\udce9.jpg', 1000) != image_file_name('caf.jpg', 1000)
