"""Names, lists and pictures that are odd: each is done or listed, and none ends the run."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from bimm_mm.contours.cache import ContourCache
from bimm_mm.contours.extraction import Extractor, list_data, read_image
from bimm_mm.contours.writer import write_manifest

LATIN = os.fsdecode(b'caf\xe9')


def segment(images):
    """Stands for a generator: a line at the left of whatever is bright."""
    bright = [image.mean(2) > 127 for image in images]
    return [x[:, 1:] & ~x[:, :-1] for x in bright]


def extract(folder, cache, names, segment=segment, **more):
    write_manifest(cache, 'images', {}, num_files=1, num_images=len(names))
    extractor = Extractor('images', folder, cache, segment, made_by={}, **more)
    extractor.run(names)
    return extractor


def write_picture(path, dtype=np.uint8):
    picture = np.zeros((32, 48), dtype)
    picture[:, 24:] = np.iinfo(dtype).max
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(cv2.imencode('.png', picture)[1].tobytes())


def test_paths_of_a_list_are_kept_below_the_folder(tmp_path):
    (tmp_path / 'videos').mkdir()
    ann_file = tmp_path / 'list.txt'
    lines = f'{tmp_path}/videos/a b.mp4 0', 'c/../d.mp4 1', 'tab.mp4\t3', 'comma.mp4,300,4'
    ann_file.write_text('\ufeff' + '\n'.join(lines), encoding='utf-8')
    found = list_data('videos', tmp_path / 'videos', ann_file)
    assert found == ['a b.mp4', 'comma.mp4', 'd.mp4', 'tab.mp4']
    with pytest.raises(ValueError, match=r'list.txt, line 1: no path that ends in .*jpg.* in '):
        list_data('images', tmp_path / 'videos', ann_file)


@pytest.mark.parametrize('line', ['/elsewhere/a.mp4 0', '../other/b.mp4 0'])
def test_a_path_outside_the_folder_is_refused_before_anything_is_written(tmp_path, line):
    (tmp_path / 'videos').mkdir()
    ann_file = tmp_path / 'list.txt'
    ann_file.write_text(f'good.mp4 1\n{line}\n')
    with pytest.raises(ValueError, match=r'list.txt, line 2: .* does not lie in the folder'):
        list_data('videos', tmp_path / 'videos', ann_file)


def test_names_that_are_not_utf8_are_done_and_broken_ones_are_listed(tmp_path):
    good, broken = f'{LATIN}.png', f'{LATIN}_broken.png'
    write_picture(tmp_path / 'data' / good)
    (tmp_path / 'data' / broken).write_bytes(b'not a picture')
    names = list_data('images', tmp_path / 'data', None)
    assert names == [good, broken]
    extractor = extract(tmp_path / 'data', tmp_path / 'cache', names)
    assert extractor.broken == [broken]
    assert (tmp_path / 'cache/broken.txt').read_bytes() == os.fsencode(broken) + b'\n'
    assert ContourCache(tmp_path / 'cache').image(good, (32, 48)).sum() == 32


def test_a_list_that_is_not_utf8_is_read(tmp_path):
    (tmp_path / 'list.txt').write_bytes(b'caf\xe9.png 3\n')
    assert list_data('images', tmp_path, tmp_path / 'list.txt') == [f'{LATIN}.png']


@pytest.mark.parametrize(
    'error',
    [
        RuntimeError('nonzero is not supported for tensors with more than INT_MAX elements'),
        torch.OutOfMemoryError('CUDA out of memory'),
        MemoryError(),
    ],
)
@pytest.mark.parametrize('batch', [{}, dict(images_per_batch=2)], ids=str)
def test_a_picture_that_cannot_be_segmented_is_listed_and_the_rest_is_done(tmp_path, error, batch):
    def fail_at_the_second(images):
        if any(image[0, 0, 0] == 7 for image in images):
            raise error
        return segment(images)

    for name in ('a.png', 'b.png', 'c.png'):
        write_picture(tmp_path / 'data' / name)
    cv2.imwrite(str(tmp_path / 'data/b.png'), np.full((32, 48, 3), 7, np.uint8))
    names = list_data('images', tmp_path / 'data', None)
    for _ in range(2):  # a second run stops nowhere, and says the same
        extract(tmp_path / 'data', tmp_path / 'cache', names, fail_at_the_second, **batch)
        assert (tmp_path / 'cache/broken.txt').read_text() == 'b.png\n'
    assert ContourCache(tmp_path / 'cache').image('c.png', (32, 48)).any()


def test_an_error_of_the_device_is_not_blamed_on_the_picture(tmp_path):
    error = getattr(torch, 'AcceleratorError', None)
    if error is None:
        pytest.skip('this torch has no class for errors of a device')

    def fail(images):
        raise error('CUDA error: an illegal memory access was encountered')

    write_picture(tmp_path / 'data/a.png')
    with pytest.raises(error, match='illegal memory access'):
        extract(tmp_path / 'data', tmp_path / 'cache', ['a.png'], fail)
    assert not (tmp_path / 'cache/broken.txt').exists()


def test_sixteen_bits_are_scaled_to_eight(tmp_path):
    gray = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    for picture in (gray, np.dstack([gray] * 3)):
        cv2.imwrite(str(tmp_path / 'g.png'), picture)
        image = read_image(tmp_path / 'g.png')
        assert image.dtype == np.uint8 and abs(image.mean() - 127.5) < 1


def test_a_picture_is_turned_by_its_exif_entry_and_is_rgb(tmp_path):
    image_module = pytest.importorskip('PIL.Image', reason='writes EXIF entries')
    picture = np.zeros((32, 48, 3), np.uint8)
    picture[..., 0] = 200  # red
    exif = image_module.Exif()
    exif[0x0112] = 6
    path = Path(tmp_path / 'a.jpg')
    image_module.fromarray(picture).save(path, exif=exif)
    image = read_image(path)
    assert image.shape == (48, 32, 3) and image[..., 0].min() > 150 > 60 > image[..., 2].max()
