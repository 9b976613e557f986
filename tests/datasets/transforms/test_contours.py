"""Contours stay on the outlines they belong to, through the transforms of the recipes."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import TRANSFORMS, init_default_scope

from bimm_mm.contours.format import SUFFIX, ContourCacheError, image_file_name
from bimm_mm.contours.writer import ContourWriter, write_manifest

FRAMES, HEIGHT, WIDTH = 24, 150, 200
CROP = [
    dict(type='mmaction.Resize', scale=(-1, 128)),
    dict(
        type='mmaction.MultiScaleCrop',
        input_size=112,
        scales=(1, 0.875, 0.75, 0.66),
        num_fixed_crops=13,
    ),
    dict(type='mmaction.Resize', scale=(112, 112), keep_ratio=False),
    dict(type='mmaction.Flip', flip_ratio=0.5),
    dict(type='mmaction.FormatShape', input_format='NCTHW'),
    dict(type='mmaction.PackActionInputs'),
]
DECODE = [
    dict(type='mmaction.DecordInit'),
    dict(type='mmaction.SampleFrames', clip_len=8, frame_interval=2, num_clips=1),
    dict(type='mmaction.DecordDecode'),
]
IMAGE = [
    dict(type='LoadImageFromFile'),
    dict(type='mmpretrain.NumpyToPIL', to_rgb=True),
    dict(type='LoadContours'),
    dict(
        type='mmpretrain.torchvision/RandomResizedCrop',
        size=112,
        scale=(0.4, 1.0),
        interpolation='bicubic',
    ),
    dict(type='mmpretrain.torchvision/RandomHorizontalFlip'),
    dict(type='mmpretrain.PackInputs'),
]


def scene(index):
    """A bright shape that moves, without symmetry, (HEIGHT, WIDTH) bool."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    x, y = 30 + 4 * index, 25 + 2 * index
    cv2.fillPoly(mask, [np.array([(x, y), (x + 60, y + 10), (x + 35, y + 70), (x, y + 40)])], 1)
    return mask.astype(bool)


def outline(mask):
    """Pixels next to the boundary of a mask, (H, W) bool."""
    mask = mask.astype(np.uint8)
    return cv2.dilate(mask, np.ones((3, 3), np.uint8)) != cv2.erode(mask, np.ones((3, 3), np.uint8))


def picture(index):
    """Bright red on dark blue, BGR: channels that are mixed up show."""
    return np.where(scene(index)[..., None], (60, 60, 230), (120, 30, 30)).astype(np.uint8)


def write_cache(root, stride, size=(HEIGHT, WIDTH), frames=FRAMES):
    write_manifest(root, 'videos', {})
    header = dict(
        kind='videos',
        num_frames=frames,
        height=size[0],
        width=size[1],
        stride=stride,
        made_by={},
    )
    indices = range(0, frames, stride)
    with ContourWriter(root / f'a/clip.avi{SUFFIX}', header, len(indices)) as writer:
        for index in indices:
            writer.add(outline(scene(index)), (HEIGHT, WIDTH))
        writer.finish()


@pytest.fixture(scope='module')
def videos(tmp_path_factory):
    """A folder with one video of the moving shape."""
    pytest.importorskip('decord', reason='decodes the video')
    folder = tmp_path_factory.mktemp('videos')
    (folder / 'a').mkdir()
    size = (WIDTH, HEIGHT)
    path = str(folder / 'a/clip.avi')
    writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*'MJPG'), 10, size)
    for index in range(FRAMES):
        writer.write(picture(index))
    writer.release()
    return folder


def video_dataset(folder, cache, pipeline):
    video = pytest.importorskip('bimm_mm.datasets.video', reason='needs mmaction2')
    init_default_scope('mmengine')
    return video.VideoFolderDataset(str(folder), pipeline, contour_cache=str(cache))


def misplaced(colors, contour):
    """Share of strong contour pixels more than 2 px off the outline, and the reverse."""
    shape = colors[0].astype(int) > colors[2]  # red, not blue
    edge, strong = outline(shape), contour > 127
    near, around = (
        cv2.dilate(x.astype(np.uint8), np.ones((5, 5), np.uint8)) for x in (edge, strong)
    )
    inner = (slice(4, -4), slice(4, -4))  # at the border, what lies beyond is not to be seen
    count = max(strong[inner].sum(), 1)
    return (strong & (near == 0))[inner].sum() / count, (edge & (around == 0))[inner].sum() / count


def test_clips_through_random_crop_and_flip(videos, tmp_path):
    write_cache(tmp_path, stride=1)
    dataset = video_dataset(videos, tmp_path, [*DECODE, dict(type='LoadContours'), *CROP])
    np.random.seed(0)
    for _ in range(6):
        clip = dataset[0]['inputs'][0].numpy()
        assert clip.shape == (4, 8, 112, 112) and clip.dtype == np.uint8
        for t in range(8):
            off, uncovered = misplaced(clip[:3, t], clip[3, t])
            assert off < 0.02 and uncovered < 0.02
        # the measure sees what it should: the contour of another frame, or of the mirrored one
        assert misplaced(clip[:3, 0], clip[3, 4])[0] > 0.2
        assert misplaced(clip[:3, 0], clip[3, 0, :, ::-1])[0] > 0.2


def test_a_frame_takes_the_contour_of_the_nearest_segmented_one(videos, tmp_path):
    write_cache(tmp_path, stride=4)
    dataset = video_dataset(videos, tmp_path, [*DECODE, dict(type='LoadContours')])
    for start in range(4):
        dataset.pipeline.transforms[1] = lambda results, start=start: dict(
            results, frame_inds=np.arange(start, FRAMES, 3)
        )
        for index, image in zip(range(start, FRAMES, 3), dataset[0]['imgs'], strict=True):
            distance = {t: abs(t - index) for t in range(0, FRAMES, 4)}
            same = [t for t in distance if np.array_equal(image[..., 3], 255 * outline(scene(t)))]
            assert len(same) == 1 and distance[same[0]] == min(distance.values())


def test_without_a_cache_nothing_changes(videos):
    video = pytest.importorskip('bimm_mm.datasets.video', reason='needs mmaction2')
    init_default_scope('mmengine')
    dataset = video.VideoFolderDataset(str(videos), [*DECODE, dict(type='LoadContours'), *CROP])
    assert dataset[0]['inputs'].shape == (1, 3, 8, 112, 112)


def images(tmp_path, scale=1):
    """A data set of one image, larger than its contour by ``scale``."""
    module = pytest.importorskip('bimm_mm.datasets.image', reason='needs mmpretrain')
    init_default_scope('mmengine')
    data, cache = tmp_path / 'data', tmp_path / 'cache'
    data.mkdir()
    size = (WIDTH * scale, HEIGHT * scale)
    image = cv2.resize(picture(3), size, interpolation=cv2.INTER_NEAREST)
    cv2.imwrite(str(data / 'one.png'), image)
    write_manifest(cache, 'images', {}, num_files=1, num_images=1)
    header = dict(kind='images', names=['one.png'], made_by={})
    with ContourWriter(cache / image_file_name('one.png', 1), header, 1) as writer:
        writer.add(outline(scene(3)), size[::-1])
        writer.finish()
    return module.ImageFolderDataset(
        data_root=str(data), with_label=False, pipeline=IMAGE, contour_cache=str(cache)
    )


@pytest.mark.parametrize('scale', [1, 3])
def test_images_through_random_resized_crop_and_flip(tmp_path, scale):
    dataset = images(tmp_path, scale)
    torch.manual_seed(0)
    for _ in range(6):
        image = dataset[0]['inputs'].numpy()
        assert image.shape == (4, 112, 112) and image.dtype == np.uint8
        # colors are those of the picture, also where there is no contour
        assert abs(int(np.median(image[2])) - 120) < 5
        off, uncovered = misplaced(image[:3], image[3])
        assert off < 0.02 and uncovered < 0.05
        assert misplaced(image[:3], image[3, :, ::-1])[0] > 0.2


def test_images_as_arrays(tmp_path):
    dataset = images(tmp_path)
    image = cv2.imread(dataset.get_data_info(0)['img_path'])
    sample = dict(img=image, contours=dataset.get_data_info(0)['contours'])
    image = TRANSFORMS.build(dict(type='LoadContours'))(sample)['img']
    assert np.array_equal(image[..., :3], picture(3))
    assert np.array_equal(image[..., 3], 255 * outline(scene(3)))


def test_missing_cache_stops_with_the_command(videos, tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        video_dataset(videos, tmp_path / 'none', DECODE)
    text = str(error.value)
    assert f'bimm extract-contours videos {videos} {tmp_path}/none --model-type' in text
    assert '_edge' in text


def test_missing_samples_are_counted(videos, tmp_path):
    write_manifest(tmp_path, 'videos', {})
    with pytest.raises(ContourCacheError, match=r"no contours of 1 of 1 videos, as 'a/clip.avi'"):
        video_dataset(videos, tmp_path, DECODE)


@pytest.mark.parametrize('other', [dict(size=(HEIGHT, 100)), dict(frames=FRAMES - 1)])
def test_contours_of_another_video(videos, tmp_path, other):
    write_cache(tmp_path, stride=4, **other)
    dataset = video_dataset(videos, tmp_path, [*DECODE, dict(type='LoadContours')])
    with pytest.raises(RuntimeError, match=r"clip.avi.contours does not fit 'a/clip.avi'.*delete"):
        dataset[0]
