import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, MODELS
from torch.utils.data import DataLoader

pytest.importorskip('mmaction', reason='needs mmaction2')
pytest.importorskip('decord', reason='needs decord')

import bimm_mm  # noqa: E402, F401
from bimm_mm.captions.file import CaptionError, format_line  # noqa: E402
from bimm_mm.datasets.video import VideoFolderDataset  # noqa: E402

# VideoMAE's pretraining augmentation, as the configs have it.
PIPELINE = [
    dict(type='mmaction.DecordInit'),
    dict(
        type='mmaction.SampleFrames',
        clip_len=16,
        frame_interval=4,
        num_clips=1,
        out_of_bound_opt='repeat_last',
    ),
    dict(type='mmaction.DecordDecode'),
    dict(type='mmaction.Resize', scale=(-1, 256)),
    dict(
        type='mmaction.MultiScaleCrop',
        input_size=224,
        scales=(1, 0.875, 0.75, 0.66),
        num_fixed_crops=13,
    ),
    dict(type='mmaction.Resize', scale=(224, 224), keep_ratio=False),
    dict(type='mmaction.FormatShape', input_format='NCTHW'),
    dict(type='mmaction.PackActionInputs'),
]
IMAGE_PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='mmpretrain.NumpyToPIL', to_rgb=True),
    dict(
        type='mmpretrain.torchvision/RandomResizedCrop',
        size=224,
        scale=(0.2, 1.0),
        interpolation='bicubic',
    ),
    dict(type='mmpretrain.PackInputs'),
]


@pytest.fixture(scope='module')
def data():
    default = Path(__file__).parents[3] / 'shared' / 'data'
    folder = Path(os.environ.get('BIMM_TEST_DATA', default))
    if not (folder / 'clips').is_dir():
        pytest.skip(f'no real clips in {folder}; set BIMM_TEST_DATA to a folder with clips/')
    return folder


@pytest.fixture
def red_video(tmp_path):
    """A folder with one video of 20 frames of 64x48 pixels, all red."""
    path = tmp_path / 'red' / 'video.avi'
    path.parent.mkdir()
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 10, (64, 48))
    for _ in range(20):
        writer.write(np.full((48, 64, 3), (0, 0, 255), dtype=np.uint8))
    writer.release()
    return path.parent


def names(dataset):
    return [Path(dataset.get_data_info(i)['filename']).name for i in range(len(dataset))]


def test_nested_folder_is_listed_sorted(tmp_path):
    for name in ('b/2.mp4', 'b/1.MKV', 'a/c/9.webm', '3.avi', 'notes.txt', '.hidden.mp4', 'mp4'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    dataset = VideoFolderDataset(data_root=str(tmp_path))
    assert names(dataset) == ['3.avi', '9.webm', '1.MKV', '2.mp4']
    assert dataset.get_data_info(0)['filename'] == str(tmp_path / '3.avi')
    part = VideoFolderDataset(str(tmp_path), data_prefix=dict(video='b'), extensions=['.mp4'])
    assert names(part) == ['2.mp4']


def test_annotation_file_with_and_without_labels(tmp_path):
    (tmp_path / 'list.txt').write_text('x/1.mp4 7\n2.mp4\n')
    dataset = VideoFolderDataset(data_root=str(tmp_path), ann_file='list.txt')
    assert names(dataset) == ['1.mp4', '2.mp4']
    assert [dataset.get_data_info(i)['label'] for i in range(2)] == [7, -1]


def test_frames_are_rgb(red_video):
    dataset = VideoFolderDataset(data_root=str(red_video), pipeline=PIPELINE)
    red, green, blue = dataset[0]['inputs'][0].float().mean((1, 2, 3))
    assert red > 240 and green < 15 and blue < 15


def test_real_clips_through_a_loader(data):
    config = dict(type='VideoFolderDataset', data_root=str(data / 'clips'), pipeline=PIPELINE)
    dataset = DATASETS.build(config)
    assert len(dataset) == len(list((data / 'clips').glob('*.mp4')))
    loader = DataLoader(dataset, batch_size=2, num_workers=1, collate_fn=pseudo_collate)
    batches = list(loader)
    assert sum(len(batch['inputs']) for batch in batches) == len(dataset)
    for clip in batches[0]['inputs']:
        assert clip.shape == (1, 3, 16, 224, 224) and clip.dtype == torch.uint8
        # Frames of one clip resemble each other, and are not all the same.
        differences = (clip[0, :, 1:].float() - clip[0, :, :-1].float()).abs().mean()
        assert 0 < differences < clip.float().std()


def test_flat_folder_of_images_is_rgb(tmp_path):
    datasets = pytest.importorskip('mmpretrain.datasets', reason='needs mmpretrain')
    cv2.imwrite(str(tmp_path / 'red.png'), np.full((90, 70, 3), (0, 0, 255), dtype=np.uint8))
    dataset = datasets.CustomDataset(
        data_root=str(tmp_path), with_label=False, pipeline=IMAGE_PIPELINE
    )
    image = dataset[0]['inputs']
    assert image.shape == (3, 224, 224) and image.dtype == torch.uint8
    assert image.amin((1, 2)).tolist() == image.amax((1, 2)).tolist() == [255, 0, 0]


def test_missing_paths_are_named(tmp_path):
    missing = tmp_path / 'nowhere'
    with pytest.raises(FileNotFoundError, match=f"data_root .* existing folder .*'{missing}"):
        VideoFolderDataset(data_root=str(missing))
    with pytest.raises(FileNotFoundError, match=f"ann_file .* got '{tmp_path}/no.txt'"):
        VideoFolderDataset(data_root=str(tmp_path), ann_file='no.txt')
    with pytest.raises(FileNotFoundError, match=f'{tmp_path}.* holds no file ending in .*mp4'):
        VideoFolderDataset(data_root=str(tmp_path))
    with pytest.raises(ValueError, match='data_root .* ann_file .* all are empty'):
        VideoFolderDataset()
    with pytest.raises(ValueError, match="extensions must be .* but got 'mp4'"):
        VideoFolderDataset(data_root=str(tmp_path), extensions='mp4')


def test_broken_video_is_replaced_or_named(red_video):
    shutil.copy(red_video / 'video.avi', red_video / 'whole.avi')
    (red_video / 'broken.avi').write_bytes(b'no video')
    dataset = VideoFolderDataset(data_root=str(red_video), pipeline=PIPELINE)
    assert dataset[0]['inputs'].shape == (1, 3, 16, 224, 224)
    assert dataset[0]['data_samples'].replaced[0][0] == f'{red_video}/broken.avi'
    assert 'replaced' not in dataset[1]['data_samples']
    dataset.test_mode = True
    with pytest.raises(RuntimeError, match=f"pipeline failed on '{red_video}/broken.avi'"):
        dataset[0]


def test_captions_come_with_their_videos(data, tmp_path):
    path = tmp_path / 'captions.jsonl'
    path.write_text(format_line('pool.mp4', ['a pool', 'water']))
    pipeline = [*PIPELINE[:-1], dict(type='LoadCaption')]
    pipeline.append(dict(type='mmaction.PackActionInputs', meta_keys=('caption',)))
    settings = dict(data_root=str(data / 'clips'), pipeline=pipeline)
    dataset = VideoFolderDataset(**settings, caption_file=str(path))
    found = {Path(info['filename']).name: info['captions'] for info in dataset.load_data_list()}
    assert found.pop('pool.mp4') == ['a pool', 'water']
    assert set(map(tuple, found.values())) == {()}
    names = [Path(info['filename']).name for info in dataset.load_data_list()]
    samples = [dataset[names.index(name)] for name in ('pool.mp4', 'basketball.mp4')]
    assert samples[0]['data_samples'].caption in ('a pool', 'water')
    assert samples[1]['data_samples'].caption == ''
    batch = MODELS.build(dict(type='ClipDataPreprocessor'))(pseudo_collate(samples))
    assert batch['caption'] == [sample['data_samples'].caption for sample in samples]
    path.write_text(format_line('clips/pool.mp4', ['a pool']))
    with pytest.raises(CaptionError, match='has none of the 4 videos.*relative to the folder'):
        VideoFolderDataset(**settings, caption_file=str(path))
