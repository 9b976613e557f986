import cv2
import numpy as np
import pytest

from bimm_mm.datasets.transforms import LoadImage


def read(path):
    return LoadImage()(dict(img_path=str(path)))['img']


@pytest.mark.parametrize('ending', ['.png', '.tiff', '.pgm'])
def test_gray_images_of_16_bits_are_scaled(tmp_path, ending):
    ramp = np.linspace(0, 65535, 4096).reshape(64, 64)
    path = tmp_path / f'deep{ending}'
    cv2.imwrite(str(path), ramp.astype(np.uint16))
    image = read(path)
    assert image.shape == (64, 64, 3) and image.dtype == np.uint8
    assert np.abs(image.astype(float) - (ramp / 257)[..., None]).max() <= 1


def test_others_are_as_they_were(tmp_path):
    image = np.random.default_rng(0).integers(256, size=(20, 30, 3), dtype=np.uint8)
    for name in ('color.png', 'color.bmp'):
        cv2.imwrite(str(tmp_path / name), image)
        assert np.array_equal(read(tmp_path / name), image)
    gray = image[..., 0]
    cv2.imwrite(str(tmp_path / 'gray.png'), gray)
    assert np.array_equal(read(tmp_path / 'gray.png'), np.repeat(gray[..., None], 3, 2))


def test_a_truncated_image_is_refused(tmp_path):
    image = np.random.default_rng(0).integers(256, size=(64, 64, 3), dtype=np.uint8)
    data = cv2.imencode('.jpg', image)[1].tobytes()
    (tmp_path / 'cut.jpg').write_bytes(data[: len(data) // 2])
    with pytest.raises(OSError, match='truncated'):
        read(tmp_path / 'cut.jpg')
