"""Motion vectors of clips that PyAV encodes: a textured square on a textured background."""

import cv2
import numpy as np
import pytest

av = pytest.importorskip('av', reason='needs PyAV')

from bimm_mm.datasets.transforms import LoadMotionVectors, PackMotionVectors  # noqa: E402
from bimm_mm.video.motion_vectors import MotionVectorReader, spread_blocks  # noqa: E402

WIDTH, HEIGHT, SIDE = 192, 128, 64


def draw(frame, right, down):
    generator = np.random.default_rng(0)
    # noise of three pixels' grain, which no encoder takes for a new picture
    sizes = ((HEIGHT, WIDTH), (SIDE, SIDE))
    picture, square = (
        cv2.resize(generator.integers(0, 256, (h // 3, w // 3, 3), np.uint8), (w, h))
        for h, w in sizes
    )
    top, left = 32 + down * frame, 32 + right * frame
    picture[top : top + SIDE, left : left + SIDE] = square
    return picture


def encode(path, codec='libx264', right=4, down=0, frames=10, options=None):
    with av.open(str(path), 'w') as container:
        stream = container.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, 'yuv420p'
        stream.bit_rate = 8_000_000
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(draw(number, right, down), format='rgb24')
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


NEAREST = dict(bf='0', refs='1', g='50')  # vectors to the frame before, and to no other one


@pytest.mark.parametrize(('codec', 'right', 'down'), [
    ('libx264', 4, 0), ('libx264', -3, 2), ('mpeg4', 4, 0)
])  # fmt: skip
def test_vectors_are_those_of_the_square(tmp_path, codec, right, down):
    path = encode(tmp_path / 'a.mp4', codec, right, down, options=NEAREST)
    reader = MotionVectorReader(path)
    assert len(reader) == 10
    vectors = reader.get_vectors([4, 4, 6])
    assert vectors.shape == (3, HEIGHT // 8, WIDTH // 8, 2)
    assert np.array_equal(vectors[0], vectors[1])
    for number, frame in ((0, 4), (2, 6)):
        top, left = 32 + down * frame, 32 + right * frame
        inside = vectors[number, top // 8 + 2 : (top + SIDE) // 8 - 2,
                         left // 8 + 2 : (left + SIDE) // 8 - 2]  # fmt: skip
        assert np.abs(np.median(inside, axis=(0, 1)) - (right, down)).max() < 0.6
    assert np.median(np.abs(vectors[0, :2])) == 0  # the background stands still


def test_key_frames_take_those_of_a_neighbor(tmp_path):
    reader = MotionVectorReader(encode(tmp_path / 'a.mp4', options=NEAREST))
    vectors = reader.get_vectors([0, 3])
    assert np.array_equal(vectors[0], vectors[1]) and np.abs(vectors).max() > 3


def test_a_codec_that_exports_none_gives_zeros(tmp_path):
    path = encode(tmp_path / 'a.mkv', 'ffv1')
    assert not MotionVectorReader(path).get_vectors(range(10)).any()


def test_blocks_of_all_sizes_cover_their_cells():
    fields = ['source', 'w', 'h', 'dst_x', 'dst_y', 'motion_x', 'motion_y', 'motion_scale']
    blocks = np.zeros(3, dtype=[(name, '<i4') for name in fields])
    blocks[0] = (-1, 16, 16, 8, 8, -8, 4, 4)  # came 2 pixels from the left: moves to the right
    blocks[1] = (1, 8, 8, 28, 4, 12, 0, 4)  # goes 3 pixels to the right
    blocks[2] = (-1, 8, 8, 28, 4, 4, 0, 4)  # came from the right; together with the one above
    maps = spread_blocks(blocks, (2, 4))
    assert np.array_equal(maps[:2, :2], np.broadcast_to([2.0, -1.0], (2, 2, 2)))
    assert np.array_equal(maps[0, 3], [1.0, 0.0]) and not maps[1, 2:].any()


def sample(path, flip=False, scale=1.0, interval=1):
    frames = np.zeros((4, HEIGHT, WIDTH, 3), np.uint8)
    results = dict(filename=str(path), frame_inds=np.arange(3, 7), imgs=list(frames))
    results = LoadMotionVectors()(results | dict(with_motion_vectors=True))
    assert results['imgs'][0].shape == (HEIGHT, WIDTH, 5)
    if flip:
        results['imgs'] = [image[:, ::-1] for image in results['imgs']]
        results |= dict(flip=True, flip_direction='horizontal')
    return PackMotionVectors()(
        results | dict(scale_factor=np.array([scale, scale]), frame_interval=interval)
    )


def test_vectors_of_tokens_follow_flip_and_scale(tmp_path):
    path = encode(tmp_path / 'a.mp4', options=NEAREST)
    plain, flipped, scaled = (
        sample(path, **kwargs)['motion_vectors'] for kwargs in ({}, dict(flip=True), dict(scale=2))
    )
    assert plain.shape == (2, 8, 12, 2)
    # 4 pixels per frame, a quarter of a patch, in two frames; tokens wholly inside the square
    assert np.abs(np.median(plain[:, 3:5, 4:6, 0]) - 0.5) < 0.1
    mirrored = plain[:, :, ::-1] * np.float32([-1, 1])
    assert np.abs(flipped - mirrored).max() < 1e-6
    assert np.allclose(scaled, 2 * plain)
    assert np.allclose(sample(path, interval=3)['motion_vectors'], 3 * plain)


def test_samples_that_do_not_ask_are_left_alone():
    results = dict(imgs=[np.zeros((16, 16, 3), np.uint8)])
    assert PackMotionVectors()(LoadMotionVectors()(dict(results))).keys() == results.keys()
