"""Codes cut out of those made beforehand are those that the model would make of the crop."""

import random

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import MODELS, init_default_scope

import bimm_mm  # noqa: F401  registers the parts
from bimm_mm.codes.cache import CodeCacheError, View, write_manifest
from bimm_mm.codes.extraction import CodeExtractor
from bimm_mm.datasets.transforms import GridCrop, LoadCodes

SIDE, CODES, STEP = 48, 50, 8  # short side, number of codes, pixels a code stands for
PACK = [
    dict(type='mmaction.FormatShape', input_format='NCTHW'),
    dict(type='mmaction.PackActionInputs', meta_keys=('codes',)),
]


@pytest.fixture
def tokenizer(tmp_path):
    """Makes a codebook of random patches; of 4 x 4 pixels or of 8 x 8."""

    def make(factor=STEP, **kwargs):
        path = tmp_path / f'codebook_{factor}.pth'
        generator = torch.Generator().manual_seed(0)
        centers = torch.rand(CODES, 3 * factor**2, generator=generator)
        torch.save(dict(state_dict=dict(centers=centers)), path)
        return dict(type='PatchTokenizer', checkpoint=str(path)) | kwargs

    return make


def encode(folder, names, root, tokenizer, views, fps=None, kind='videos'):
    """Make a cache of a folder."""
    network = MODELS.build(dict(tokenizer, mean=[0] * 3, std=[1] * 3))
    made_by = dict(type='x', sha256='abc', num_codes=CODES, factor=network.factor)
    cache = write_manifest(root, made_by, fps, views)
    extractor = CodeExtractor(folder, cache, network, kind=kind)
    assert all(frames for _, frames in extractor.run(names))
    return str(root)


def whole(flips=(False,), resize=SIDE, step=None):
    return [View(resize, 'whole', resize, flip, step) for flip in flips]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A video, two images and a turned image of colored noise, of 48 x 71 pixels and 25 fps."""
    folder = tmp_path_factory.mktemp('media')
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (12, SIDE, 71, 3), np.uint8)
    (folder / 'a').mkdir()
    writer = cv2.VideoWriter(str(folder / 'a/x.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 25, (71, 48))
    for frame in frames:
        writer.write(frame)
    writer.release()
    (folder / 'images').mkdir()
    for name, frame in (('one', frames[0]), ('two', frames[1].transpose(1, 0, 2))):
        cv2.imwrite(str(folder / f'images/{name}.png'), frame)
    return folder


def clips(folder, cache, crop, num_repeats=1, **load):
    """A data set of clips of 4 frames, with what is left of their pipeline after decoding."""
    video = pytest.importorskip('bimm_mm.datasets.video', reason='needs mmaction2')
    init_default_scope('mmengine')
    pipeline = [
        dict(type='VideoInit', timeout=None),
        dict(type='mmaction.SampleFrames', clip_len=4, frame_interval=2, num_clips=1),
        dict(type='VideoDecode'),
        *crop,
        dict(type='LoadCodes', grid=(4, 4), **load),
        *PACK,
    ]
    return video.VideoFolderDataset(
        str(folder), pipeline, code_cache=cache, num_repeats=num_repeats, extensions=('.avi',)
    )


def online(sample, tokenizer, grid=(4, 4)):
    """The codes that the model makes of a sample's pixels."""
    network = MODELS.build(dict(tokenizer, mean=[0] * 3, std=[1] * 3))
    return network(sample['inputs'].float(), grid).numpy()


GRID_CROP = dict(type='GridCrop', size=32, resize=SIDE, pixels_per_code=STEP)


@pytest.mark.parametrize('flips', [(False,), (False, True)])
def test_codes_of_a_crop_are_those_made_online(folder, tmp_path, tokenizer, flips):
    cache = encode(folder, ['a/x.avi'], tmp_path / 'codes', tokenizer(), whole(flips))
    dataset = clips(folder, cache, [GRID_CROP, dict(type='mmaction.Flip', flip_ratio=0.5)])
    random.seed(0), np.random.seed(0)
    found = []
    for _ in range(24):
        sample = dataset[0]
        codes = sample['data_samples'].codes
        found.append(codes is not None)
        if codes is not None:
            assert codes.shape == (4, 4, 4) and codes.dtype == np.int64
            np.testing.assert_array_equal(codes[None], online(sample, tokenizer()))
    # without flipped views, flipped crops have none
    assert all(found) if len(flips) == 2 else 4 < sum(found) < 20


def test_a_flipped_crop_does_not_have_the_flipped_codes(folder, tmp_path, tokenizer):
    cache = encode(folder, ['a/x.avi'], tmp_path / 'codes', tokenizer(), whole((False, True)))
    codes = np.load(f'{cache}/a/x.avi.npy')
    assert codes.shape == (2, 12, 6, 8)
    assert (codes[0] != codes[1, ..., ::-1]).mean() > 0.5


def test_frames_of_another_size_are_resized_alike(folder, tmp_path, tokenizer):
    cache = encode(folder, ['a/x.avi'], tmp_path / 'codes', tokenizer(), whole(resize=40))
    dataset = clips(folder, cache, [dict(GRID_CROP, resize=40)])
    for _ in range(4):
        sample = dataset[0]
        codes = sample['data_samples'].codes
        np.testing.assert_array_equal(codes[None], online(sample, tokenizer()))


def test_several_scales_have_a_cache_each(folder, tmp_path, tokenizer):
    caches = [
        encode(folder, ['a/x.avi'], tmp_path / f'{side}', tokenizer(), whole(resize=side))
        for side in (SIDE, 64)
    ]
    dataset = clips(folder, caches, [dict(GRID_CROP, resize=(SIDE, 64))])
    seen = set()
    for _ in range(12):
        sample = dataset[0]
        codes = sample['data_samples'].codes
        np.testing.assert_array_equal(codes[None], online(sample, tokenizer()))
        seen.add(codes.tobytes())
    assert len(seen) > 4
    dataset = clips(folder, caches[0], [dict(GRID_CROP, resize=64)])
    assert dataset[0]['data_samples'].codes is None


def test_a_tokenizer_with_smaller_codes_sees_the_reduced_frame(folder, tmp_path, tokenizer):
    """Equal but for what resizing sees beyond the border of the crop, a few pixels."""
    small = tokenizer(4)
    cache = encode(folder, ['a/x.avi'], tmp_path / 'codes', small, whole(step=STEP))
    dataset, same = clips(folder, cache, [GRID_CROP]), []
    for _ in range(8):
        sample = dataset[0]
        same.append(sample['data_samples'].codes[None] == online(sample, small))
    same = np.stack(same)
    assert same[..., 1:-1, 1:-1].all() and 0.7 < same.mean() < 1


@pytest.mark.parametrize('fps', [12.5, 4])
def test_frames_that_were_not_encoded_have_no_codes(folder, tmp_path, tokenizer, fps):
    """Every second frame of those with even numbers is in a cache of half the rate."""
    cache = encode(folder, ['a/x.avi'], tmp_path / 'codes', tokenizer(), whole(), fps)
    dataset, found = clips(folder, cache, [GRID_CROP]), []
    for _ in range(16):
        sample = dataset[0]
        codes = sample['data_samples'].codes
        found.append(codes is not None)
        if codes is not None:
            np.testing.assert_array_equal(codes[None], online(sample, tokenizer()))
    assert 0 < sum(found) < 16 if fps == 12.5 else not any(found)


@pytest.mark.parametrize(
    'crop',
    [
        dict(type='MultiScaleCropResize', size=32, short_side=SIDE, scales=(2 / 3,)),
        dict(type='mmaction.RandomCrop', size=32),
        dict(type='mmaction.CenterCrop', crop_size=32),
        dict(type='mmaction.RandomResizedCrop'),
    ],
)
def test_any_crop_that_lies_on_the_grid_has_codes(folder, tmp_path, tokenizer, crop):
    cache = encode(folder, ['a/x.avi'], tmp_path / 'codes', tokenizer(), whole())
    dataset, found = clips(folder, cache, [crop]), []
    random.seed(0), np.random.seed(0)
    for _ in range(40 if crop['type'] != 'mmaction.CenterCrop' else 1):
        sample = dataset[0]
        codes = sample['data_samples'].codes
        found.append(codes is not None)
        if codes is not None:
            np.testing.assert_array_equal(codes[None], online(sample, tokenizer()))
    # (48 - 32) / 2 = 8 rows, but (71 - 32) / 2 = 19 columns are not whole codes
    expected = crop['type'] in ('MultiScaleCropResize', 'mmaction.RandomCrop')
    assert any(found) == expected and not all(found)


def test_images_have_codes(folder, tmp_path, tokenizer):
    image = pytest.importorskip('bimm_mm.datasets.image', reason='needs mmpretrain')
    init_default_scope('mmengine')
    folder = folder / 'images'
    names = ['one.png', 'two.png']
    cache = encode(folder, names, tmp_path / 'codes', tokenizer(), whole(), kind='images')
    for to_pil in (False, True):
        pipeline = [
            dict(type='LoadImageFromFile', imdecode_backend='pillow'),
            *([dict(type='mmpretrain.NumpyToPIL', to_rgb=True)] if to_pil else []),
            GRID_CROP,
            dict(type='LoadCodes', grid=(4, 4), num_codes=CODES, sha256='abc'),
            dict(type='mmpretrain.PackInputs', meta_keys=('codes',)),
        ]
        dataset = image.ImageFolderDataset(
            data_root=str(folder), with_label=False, pipeline=pipeline, code_cache=cache
        )
        for index in (0, 1) * 3:
            sample = dataset[index]
            pixels = sample['inputs'] if to_pil else sample['inputs'].flip(0)  # BGR
            assert pixels.shape == (3, 32, 32)
            made = online(dict(inputs=pixels[None]), tokenizer())[0]
            np.testing.assert_array_equal(sample['data_samples'].codes, made)


def test_codes_of_another_tokenizer_are_refused(folder, tmp_path, tokenizer):
    cache = encode(folder, ['a/x.avi'], tmp_path / 'codes', tokenizer(), whole())
    dataset = clips(folder, cache, [GRID_CROP], num_codes=8192)
    with pytest.raises(CodeCacheError, match='num_codes=50, but num_codes=8192 is wanted'):
        dataset.prepare_data(0)
    (tmp_path / 'codes/a/x.avi.npy').unlink()
    with pytest.raises(CodeCacheError, match="no codes of 1 of 1 videos, as 'a/x.avi'"):
        clips(folder, cache, [GRID_CROP])


def test_crops_must_fit_the_grid():
    with pytest.raises(ValueError, match='resize=128 must be at least size=224'):
        GridCrop(resize=128)
    with pytest.raises(ValueError, match='pixels_per_code=16 must divide size=224 and resize=250'):
        GridCrop(resize=250)
    assert LoadCodes().transform(dict(img=np.zeros((8, 8, 3))))['codes'] is None


def test_each_clip_of_a_video_has_its_codes_and_the_model_makes_the_others(
    folder, tmp_path, tokenizer
):
    """Through the preprocessor into a branch: the codes are those of a model without a cache."""
    cache = encode(folder, ['a/x.avi'], tmp_path / 'codes', tokenizer(), whole())
    crop = [GRID_CROP, dict(type='mmaction.Flip', flip_ratio=0.5)]
    dataset = clips(folder, cache, crop, num_repeats=2)
    random.seed(0), np.random.seed(1)
    samples = [dataset[0] for _ in range(6)]
    own = [clip for sample in samples for clip in gaps(sample['data_samples'].codes)]
    assert 0 < sum(own) < len(own) == 12
    backbone = dict(
        type='BimmViT',
        arch=dict(embed_dims=12, depth=1, num_heads=2),
        img_size=32,
        patch_size=STEP,
        num_frames=4,
        stage_ends=(1,),
    )
    model = MODELS.build(
        dict(
            type='MaskedPretrainer',
            backbone=backbone,
            masking=dict(type='TubeMasking', ratio=0.5),
            tokenizer=tokenizer(),
            neck=dict(type='MultiStageDecoder', decoders=[dict(type='LinearDecoder')]),
            targets=[dict(type='CodeTarget', num_codes=CODES)],
        )
    )
    data = dict(
        inputs=[sample['inputs'] for sample in samples],
        data_samples=[sample['data_samples'] for sample in samples],
    )
    batch = model.data_preprocessor(data)
    codes = model.begin(batch['inputs'], dict(codes=batch['codes'])).side['codes']
    assert torch.equal(codes, model.tokenizer(batch['inputs'], (4, 4)))
    model.tokenizer = None
    with pytest.raises(ValueError, match=f'{len(own) - sum(own)} of 12 samples come without codes'):
        model.begin(batch['inputs'], dict(codes=batch['codes']))


def gaps(codes):
    """Which of two clips have codes."""
    return [clip is not None for clip in ((None, None) if codes is None else codes)]
