import json

import numpy as np
import pytest
import torch

from bimm_mm.codes.cache import (
    CodeCache,
    CodeCacheError,
    View,
    finetuning_views,
    write_manifest,
)
from bimm_mm.codes.extraction import CodeExtractor, cut_view, encode_video, sample_times

TOKENIZER = dict(type='MeanTokenizer', sha256='0', num_codes=256, factor=8)
VIEWS = [View(16, 'center', 16), View(20, 'top', 16, flip=True)]


class MeanTokenizer:
    """The code of 8 x 8 pixels is their mean red."""

    num_codes = 256

    def __call__(self, frames, grid=None):
        return torch.nn.functional.avg_pool2d(frames[:, 0], 8).round().long()


class Video:
    """Frame t is red = 2 t on its left half, 200 on its right."""

    fps = 10.0

    def __len__(self):
        return 23

    def get_batch(self, indices):
        frames = np.full((len(indices), 16, 32, 3), 200, np.uint8)
        for frame, index in zip(frames, indices, strict=True):
            frame[:, :16] = 2 * index
        return frames

    def close(self):
        self.closed = True


def test_frames_are_taken_at_the_wanted_rate():
    assert sample_times(23, 10.0, 2).tolist() == [0, 5, 10, 15, 20]
    assert sample_times(23, 10.0, None).tolist() == list(range(23))
    assert sample_times(3, 10.0, 2).tolist() == [0]
    assert sample_times(5, 2.0, 4).tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert sample_times(50, 0.0, 5).tolist() == list(range(0, 50, 5))  # 25 fps is assumed
    assert sample_times(300, 29.97, 2).tolist()[:3] == [0, 14, 29]


def test_a_view_is_a_square_at_one_of_three_places():
    frame = np.zeros((16, 40, 3), np.uint8)
    frame[:, :, 0] = np.arange(40)
    for crop, first in (('top', 0), ('center', 12), ('bottom', 24)):
        cut = cut_view(frame, View(16, crop, 16))
        assert cut.shape == (16, 16, 3) and cut[0, :, 0].tolist() == list(range(first, first + 16))
    flipped = cut_view(frame, View(16, 'center', 16, flip=True))
    assert flipped[0, 0, 0] == 27
    assert cut_view(frame, View(32, 'bottom', 24)).shape == (24, 24, 3)
    with pytest.raises(ValueError, match="crop='left' must be one of top, center, bottom"):
        View(16, 'left', 16)
    with pytest.raises(ValueError, match='resize=8 must be at least size=16'):
        View(8, 'top', 16)


def test_finetuning_has_the_paper_s_twelve_views_or_six():
    views = finetuning_views(256)
    assert len(set(views)) == 12 and {view.resize for view in views} == {256, 320}
    assert len(finetuning_views(256, flip=False)) == 6


def test_a_video_is_encoded_view_by_view(tmp_path):
    cache = write_manifest(tmp_path, TOKENIZER, 2, VIEWS)
    codes = encode_video(Video(), MeanTokenizer(), cache, frames_at_once=2)
    assert codes.shape == (2, 5, 2, 2) and codes.dtype == np.uint16
    # the center: 8 pixels of the left half and 8 of the right
    assert codes[0, :, 0].tolist() == [[10 * t, 200] for t in range(5)]
    # the upper left, flipped
    assert codes[1, :, 0, 0].tolist() == [10 * t for t in range(5)]


@pytest.fixture
def extractor(tmp_path, monkeypatch):
    """Encodes fake videos; a file 'broken.mp4' cannot be opened."""
    from bimm_mm.codes import extraction

    def open_video(path):
        if path.name == 'broken.mp4':
            raise extraction.VideoError('no frames')
        opened.append(path.name)
        return Video()

    opened = []
    monkeypatch.setattr(extraction, 'open_video', open_video)
    cache = write_manifest(tmp_path / 'codes', TOKENIZER, 2, VIEWS)
    extractor = CodeExtractor(tmp_path, cache, MeanTokenizer())
    extractor.opened = opened
    return extractor


def test_a_run_continues_where_it_stopped_and_reports_what_is_broken(extractor, capsys):
    names = ['a/one.mp4', 'broken.mp4', 'two.mp4']
    run = extractor.run(names)
    assert next(run) == ('a/one.mp4', 5)
    run.close()  # stopped
    assert list(extractor.run(names)) == [('a/one.mp4', 0), ('broken.mp4', 0), ('two.mp4', 5)]
    assert extractor.opened == ['one.mp4', 'two.mp4'] and extractor.broken == ['broken.mp4']
    assert 'no frames' in capsys.readouterr().err
    cache = CodeCache(extractor.cache.root)
    assert cache.names() == ['a/one.mp4', 'two.mp4'] and cache.num_codes == 256
    assert cache.open('two.mp4')[0, 3, 0].tolist() == [30, 200]
    cache.check(cache.names())
    with pytest.raises(CodeCacheError, match="no codes of 1 of 2 videos, as 'broken.mp4'"):
        cache.check(['two.mp4', 'broken.mp4'])
    with pytest.raises(FileNotFoundError, match="no codes of 'broken.mp4'"):
        cache.open('broken.mp4')


def test_a_cache_made_otherwise_is_not_mixed_with(tmp_path):
    write_manifest(tmp_path, TOKENIZER, 2, VIEWS)
    write_manifest(tmp_path, TOKENIZER, 2, VIEWS)
    with pytest.raises(CodeCacheError, match='made otherwise: fps was 2, now 4'):
        write_manifest(tmp_path, TOKENIZER, 4, VIEWS)


def test_what_is_wrong_with_a_cache_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match='Make them with'):
        CodeCache(tmp_path)
    cache = write_manifest(tmp_path, TOKENIZER, 2, VIEWS)
    (tmp_path / 'torn.mp4.npy').write_bytes(b'\x93NUMPY')
    np.save(tmp_path / 'other.mp4.npy', np.zeros((2, 3, 4)))
    for name in ('torn.mp4', 'other.mp4'):
        with pytest.raises(CodeCacheError, match=f'{name}.npy is damaged'):
            cache.open(name)
    assert cache.find_views(flip=True) == [1] and cache.find_views() == [0, 1]
    with pytest.raises(CodeCacheError, match='has no view with'):
        cache.find_views(size=99)
    manifest = json.loads((tmp_path / 'codes.json').read_text())
    (tmp_path / 'codes.json').write_text(json.dumps(manifest | dict(format=7)))
    with pytest.raises(CodeCacheError, match='is of format 7, but 1 is needed'):
        CodeCache(tmp_path)
