"""Frames in groups: taken up again at any record, shared where they hardly differ, and priced."""

import cv2
import numpy as np
import pytest

from bimm_mm.contours.cache import ContourCache
from bimm_mm.contours.change import Chain, largest_change, thumbnail
from bimm_mm.contours.estimate import Sample, estimate, sample_videos, share_reused
from bimm_mm.contours.extraction import Extractor
from bimm_mm.contours.format import decode_record, encode_record
from bimm_mm.contours.writer import ContourWriter, write_manifest
from bimm_mm.datasets.transforms.contours import GRAY_OF_MASK, append

pytest.importorskip('av', reason='reads the videos')
FRAMES = 22


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A video whose square stands still for eleven frames, and then jumps in every second one."""
    folder = tmp_path_factory.mktemp('videos')
    writer = cv2.VideoWriter(str(folder / 'a.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 10, (128, 96))
    for index in range(FRAMES):
        image = np.full((96, 128, 3), 40, np.uint8)
        x = 20 + 8 * (max(index - 10, 0) // 2)
        image[30:50, x : x + 20] = 220
        writer.write(image)
    writer.release()
    return folder


class Segment:
    """Stands for a generator: edges of what is bright, and a mark that depends on the batch."""

    def __init__(self, stop_after=None):
        self.batches, self.stop_after = [], stop_after

    def __call__(self, images):
        if self.stop_after is not None and len(self.batches) == self.stop_after:
            raise KeyboardInterrupt
        self.batches.append(len(images))
        contours = []
        for image in images:
            contour = cv2.Canny(image, 50, 150) > 0
            contour[0, : len(images)] = True
            contours.append(contour)
        return contours


def extract(folder, cache, segment, **settings):
    made_by = dict(stride=1)
    write_manifest(cache, 'videos', made_by)
    extractor = Extractor('videos', folder, cache, segment, made_by, stride=1, **settings)
    extractor.run(['a.avi'])
    return extractor


@pytest.mark.parametrize('reuse_below', [0.0, 5.0])
def test_a_run_that_is_stopped_anywhere_gives_the_same_bytes(folder, tmp_path, reuse_below):
    settings = dict(images_per_batch=4, reuse_below=reuse_below)
    extract(folder, tmp_path / 'whole', Segment(), **settings)
    wanted = (tmp_path / 'whole/a.avi.contours').read_bytes()
    for stop_after in range(5 if not reuse_below else 3):
        cache = tmp_path / f'stopped{stop_after}'
        with pytest.raises(KeyboardInterrupt):
            extract(folder, cache, Segment(stop_after), **settings)
        part = cache / 'a.avi.contours.part'
        part.write_bytes(part.read_bytes()[:-3])  # torn in a record, in the middle of a group
        extract(folder, cache, Segment(), **settings)
        assert (cache / 'a.avi.contours').read_bytes() == wanted


def test_frames_that_hardly_differ_share_a_contour(folder, tmp_path, capsys):
    segment = Segment()
    extractor = extract(folder, tmp_path, segment, images_per_batch=4, reuse_below=5.0)
    # one for the first twelve frames, and one for each of five jumps
    assert sum(segment.batches) == 6 and extractor.reused == FRAMES - 6
    assert '72.7% of the frames took the contour of the one before' in capsys.readouterr().out
    cache = ContourCache(tmp_path)
    contours = cache.frames('a.avi', range(FRAMES), FRAMES, (96, 128))
    assert all(np.array_equal(contours[0], contour) for contour in contours[:12])
    assert not np.array_equal(contours[0][1:], contours[12][1:])
    assert sum(Segment()(np.zeros((1, 96, 128, 3), np.uint8))[0].ravel()) == 1


def test_a_small_thing_that_moves_counts_and_noise_hardly():
    frame = np.full((240, 320, 3), 100, np.uint8)
    moved = frame.copy()
    moved[100:130, 100:130] = 200  # an eighth of the height
    noise = np.random.default_rng(0).normal(0, 4, frame.shape)
    noisy = (frame + noise).clip(0, 255).astype(np.uint8)
    base = thumbnail(frame)
    assert base.shape == (64, 85)
    assert largest_change(base, thumbnail(moved)) > 80
    assert largest_change(base, thumbnail(noisy)) < 2
    assert largest_change(base, base) == 0


def test_slow_changes_add_up():
    """Frames are compared with the last segmented one, not with the one before."""
    frames = [np.full((64, 64, 3), level, np.uint8) for level in range(100, 112)]
    chain = Chain(5.0)
    assert [chain.source(i, x) for i, x in enumerate(frames)] == [0] * 5 + [5] * 5 + [10] * 2
    assert share_reused(frames, 5.0) == 9 / 12
    assert [Chain(0.0).source(i, frames[0]) for i in range(3)] == [0, 1, 2]


def test_the_estimate_counts_frames_and_says_what_settings_save(folder):
    sample = sample_videos(folder, ['a.avi', 'missing.avi'], 2, stride=2)
    assert len(sample.pictures) == 1 and sample.pictures[0].shape == (96, 128, 3)
    assert sample.total == 2 * FRAMES / 2
    assert sample.reused[0] > 0.3
    text = estimate(sample, Segment(), {'--dtype bfloat16': Segment()}, batch=1, stride=2)
    for part in ('22 to make', '| --stride 4 |', '--dtype bfloat16', '--reuse-below 4', 'GB, at '):
        assert part in text
    with pytest.raises(ValueError, match='none of the files'):
        estimate(Sample([], 10, []), Segment(), {}, batch=1)


def test_masks_are_kept_with_their_numbers(tmp_path):
    labels = np.random.default_rng(0).integers(256, size=(20, 31)).astype(np.uint8)
    contour, size = decode_record(encode_record(labels, (40, 62)))
    assert np.array_equal(contour, labels) and size == (40, 62)
    outline, _ = decode_record(encode_record(labels > 100, (40, 62)))
    assert np.array_equal(outline, labels > 100)
    write_manifest(tmp_path, 'videos', dict(what='masks'))
    header = dict(kind='videos', num_frames=1, height=40, width=62, stride=1, made_by={})
    with ContourWriter(tmp_path / 'a.avi.contours', header, 1) as writer:
        writer.add(labels, (40, 62))
        writer.finish()
    cache = ContourCache(tmp_path)
    assert cache.what == 'masks'
    image = append(
        np.zeros((40, 62, 3), np.uint8), cache.frames('a.avi', [0], 1, (40, 62))[0], 'masks'
    )
    assert np.array_equal(image[::2, ::2, 3], GRAY_OF_MASK[labels])
    assert len(set(GRAY_OF_MASK)) == 256 and GRAY_OF_MASK[0] == 0
    steps = np.abs(np.diff(GRAY_OF_MASK[1:].astype(int)))
    assert steps.min() > 90


def test_a_cache_from_before_goes_on_with_the_original_generator_only(tmp_path):
    write_manifest(tmp_path, 'videos', dict(stride=8))
    write_manifest(tmp_path, 'videos', dict(stride=8, generator='original', what='outline'))
    with pytest.raises(ValueError, match="made_by.generator was 'original', now 'batched'"):
        write_manifest(tmp_path, 'videos', dict(stride=8, generator='batched'))
