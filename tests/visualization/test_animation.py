"""Pictures that move, what they are made of, and what is drawn during training."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import MODELS
from mmengine.runner import Runner
from PIL import Image

import bimm_mm  # noqa: F401
from bimm_mm.datasets.decoded_clips import DecodedClipsDataset
from bimm_mm.engine import ReconstructionHook
from bimm_mm.visualization import (
    animate_reconstruction,
    picture_branch,
    read_clip,
    read_image,
    save_animation,
)


def branch(video):
    decoder = dict(type='TransformerDecoder', embed_dims=16, depth=1, num_heads=2)
    backbone = dict(
        type='BimmViT',
        arch=dict(embed_dims=24, depth=2, num_heads=2),
        img_size=32,
        patch_size=8,
        stage_ends=(1, 2),
    )
    return dict(
        backbone=backbone | dict(num_frames=4, tubelet_size=2) if video else backbone,
        masking=dict(type='TubeMasking' if video else 'RandomMasking', ratio=0.75),
        neck=dict(type='MultiStageDecoder', decoders=[decoder, decoder]),
        targets=[dict(type='GaborTarget'), dict(type='MotionTarget' if video else 'PixelTarget')],
    )


MODEL = dict(type='DualBranchPretrainer', ventral=branch(False), dorsal=branch(True))


@pytest.fixture(scope='module')
def model():
    torch.manual_seed(0)
    return MODELS.build(MODEL).eval()


@pytest.fixture(scope='module')
def results(model):
    return model(torch.randn(2, 3, 4, 32, 32), mode='predict')


@pytest.fixture(scope='module')
def video(tmp_path_factory):
    """12 frames of 40x60 pixels; the gray level is 20 times the number of the frame."""
    path = tmp_path_factory.mktemp('video') / 'ramp.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 10, (60, 40))
    for index in range(12):
        writer.write(np.full((40, 60, 3), 20 * index, np.uint8))
    writer.release()
    return path


def levels(clip):
    return (clip.float().mean(dim=(0, 2, 3)) / 20).round().tolist()


def test_every_frame_shows_its_own_images_at_the_same_places(model, results):
    frames = animate_reconstruction(model, results, sample=1, title='Two')
    assert frames.shape[0] == 4 and frames.dtype == np.uint8
    preprocessor = model.data_preprocessor
    made = picture_branch(
        model.dorsal, results['dorsal'], preprocessor.mean, preprocessor.std, samples=(1,)
    )
    zoom = 6  # 192 pixels for 32
    wanted = np.kron(np.rint(made.original[0] * 255).astype(np.uint8), np.ones((zoom, zoom, 1)))
    places = [
        (y, x)
        for y in range(frames.shape[1] - 192)
        for x in (20,)
        if (frames[0, y : y + 192, x : x + 192] == wanted[0]).all()
    ]
    assert len(places) == 1
    y, x = places[0]
    for frame, image in zip(frames, wanted, strict=True):
        assert (frame[y : y + 192, x : x + 192] == image).all()
    assert (frames[:, :8] == 255).all() and (frames[:, :, -8:] == 255).all()
    still = frames[:, :y]  # the ventral branch, an image
    assert (still == still[:1]).all()


def test_an_animation_keeps_its_frames(model, results, tmp_path):
    frames = animate_reconstruction(model, results)
    with Image.open(save_animation(frames, tmp_path / 'new' / 'a.gif', seconds=0.1)) as movie:
        assert (movie.n_frames, movie.size) == (4, frames.shape[2:0:-1])
        assert (movie.info['duration'], movie.info['loop']) == (100, 0)


@pytest.mark.parametrize(
    ('start', 'interval', 'expected'),
    [(0, 2, [0, 2, 4, 6]), (None, 2, [2, 4, 6, 8]), (9, 1, [9, 10, 11, 11])],
)
def test_a_clip_has_the_frames_that_were_asked_for(video, start, interval, expected):
    clip = read_clip(video, 4, interval, (16, 32), start)
    assert clip.shape == (3, 4, 16, 32) and clip.dtype == torch.uint8
    assert levels(clip) == expected


def test_an_image_is_cropped_in_the_middle_and_rgb(tmp_path):
    image = np.zeros((20, 60, 3), np.uint8)
    image[:, 20:40] = (0, 0, 255)  # BGR
    cv2.imwrite(str(tmp_path / 'a.png'), image)
    pixels = read_image(tmp_path / 'a.png', (20, 20))
    assert pixels.shape == (3, 20, 20)
    assert pixels.flatten(1).float().mean(1).tolist() == [255, 0, 0]


def test_files_that_are_none_are_named(tmp_path, video):
    broken = tmp_path / 'broken.mp4'
    broken.write_text('no video')
    for function in (lambda p: read_clip(p, 4, 1, (8, 8), None), lambda p: read_image(p, (8, 8))):
        with pytest.raises(ValueError, match='broken.mp4'):
            function(broken)
        with pytest.raises(FileNotFoundError, match='missing'):
            function(tmp_path / 'missing.mp4')
    with pytest.raises(ValueError, match='ends after frame 11, start=12'):
        read_clip(video, 4, 1, (8, 8), 12)


def test_decoded_clips_are_random_pieces_of_the_videos(video):
    data = DecodedClipsDataset(str(video.parent), length=6, size=16, short_side=20, num_frames=3)
    assert len(data) == 6
    starts = set()
    for index in range(6):
        clip = data[index]['inputs']
        assert clip.shape == (3, 3, 16, 16) and clip.dtype == torch.uint8
        first, second, third = levels(clip)
        assert second - first == third - second == 2
        starts.add(first)
    assert len(starts) > 1
    with pytest.raises(ValueError, match='short_side=8 .*size=16'):
        DecodedClipsDataset(str(video.parent), length=6, size=16, short_side=8)
    with pytest.raises(FileNotFoundError, match='nowhere'):
        DecodedClipsDataset('nowhere', length=6)


def test_the_hook_draws_the_same_samples_and_leaves_the_training_as_it_is(video, tmp_path):
    def train(hooks, folder):
        cfg = dict(
            model=MODEL,
            work_dir=str(tmp_path / folder),
            train_dataloader=dict(
                batch_size=2,
                num_workers=0,
                sampler=dict(type='InfiniteSampler', shuffle=True),
                collate_fn=dict(type='pseudo_collate'),
                dataset=dict(
                    type='MovingShapesDataset', length=8, num_frames=4, size=32, cache=False
                ),
            ),
            train_cfg=dict(type='IterBasedTrainLoop', max_iters=3),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
            custom_hooks=hooks,
            default_hooks=dict(checkpoint=None),
            log_processor=dict(by_epoch=False),
            randomness=dict(seed=0),
            experiment_name=folder,
            log_level='ERROR',
        )
        backends = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
        pytest.importorskip('tensorboard')
        cfg['visualizer'] = dict(type='Visualizer', name=folder, vis_backends=backends)
        return Runner.from_cfg(cfg).train()

    hook = dict(type='ReconstructionHook', interval=2, samples=2)
    watched, alone = train([hook], 'watched'), train([], 'alone')
    for (key, value), other in zip(
        watched.state_dict().items(), alone.state_dict().values(), strict=True
    ):
        assert torch.equal(value, other), key
    assert watched.training
    pictures = sorted((tmp_path / 'watched').rglob('reconstruction_*.png'))
    assert [path.name for path in pictures] == ['reconstruction_2.png', 'reconstruction_3.png']
    first, last = (cv2.imread(str(path)) for path in pictures)
    assert first.shape == last.shape and (first != last).any()
    rows = slice(110, 500)  # original and masked frames, which stay
    assert (first[rows] == last[rows]).all()
    events = next((tmp_path / 'watched').rglob('events.out.tfevents*'))
    assert b'reconstruction' in events.read_bytes()


@pytest.mark.parametrize('kwargs', [dict(interval=0), dict(samples=0)])
def test_the_hook_refuses_what_it_cannot_do(kwargs):
    with pytest.raises(ValueError, match='must be at least 1'):
        ReconstructionHook(**kwargs)
