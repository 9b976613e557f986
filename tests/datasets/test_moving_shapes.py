import copy
import hashlib
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS
from torch.utils.data import DataLoader

from bimm_mm.datasets import MovingShapesDataset
from bimm_mm.datasets.moving_shapes import LUMA_WEIGHTS, SHAPES, TEXTURES
from bimm_mm.datasets.shape_scenes import (
    ANGLES,
    RELIEF,
    WAVES,
    Scene,
    _covered,
    _texture,
    make_outlines,
)

COMBINATIONS = 8 * 6 * 4


def pixels(dataset, indices=None):
    indices = range(len(dataset)) if indices is None else indices
    return torch.stack([dataset[index]['inputs'] for index in indices])


def luminance(clips):
    """(N, 3, ...) uint8 to (N, ...) float."""
    return np.tensordot(clips.numpy(), LUMA_WEIGHTS, axes=(1, 0))


@pytest.fixture(scope='module')
def clips():
    dataset = MovingShapesDataset(length=5 * COMBINATIONS, seed=3)
    return dataset, pixels(dataset)


def test_sample_fits_the_model_contract():
    config = dict(type='MovingShapesDataset', length=5, size=48, num_frames=6)
    dataset = DATASETS.build(config)
    assert len(dataset) == 5
    batch = pseudo_collate([dataset[0], dataset[1]])
    clip, sample = batch['inputs'][1], batch['data_samples'][1]
    assert clip.shape == (3, 6, 48, 48) and clip.dtype == torch.uint8
    assert sample.sample_idx == 1
    for name, classes in dataset.metainfo.items():
        label = getattr(sample, name.removesuffix('_classes'))
        assert isinstance(label, int) and 0 <= label < len(classes)


def test_images_are_the_first_frames(clips):
    dataset, frames = clips
    images = MovingShapesDataset(length=20, seed=3, num_frames=None)
    assert images[0]['inputs'].shape == (3, 32, 32)
    torch.testing.assert_close(pixels(images), frames[:20, :, 0])
    assert images[7]['data_samples'].motion == dataset.labels['motion'][7]


def test_longer_clips_continue_the_path(clips):
    longer = MovingShapesDataset(length=10, seed=3, num_frames=20)
    torch.testing.assert_close(pixels(longer)[:, :, :8], clips[1][:10])


def test_sample_does_not_depend_on_length_order_or_cache(clips):
    _, expected = clips
    for cache in (True, False):
        other = MovingShapesDataset(length=40, seed=3, cache=cache)
        order = [30, 2, 30, 39]
        torch.testing.assert_close(pixels(other, order), expected[order])


def test_changing_a_sample_in_place_leaves_the_dataset_alone():
    dataset = MovingShapesDataset(length=2)
    first = dataset[0]['inputs']
    expected = first.clone()
    first.zero_()
    torch.testing.assert_close(dataset[0]['inputs'], expected)


def test_indices_beyond_the_length_are_refused():
    dataset = MovingShapesDataset(length=3)
    assert len(list(dataset)) == 3
    for index in (3, -1):
        with pytest.raises(IndexError, match=rf'index must be in \[0, 3\), but got {index}'):
            dataset[index]


def test_seeds_and_indices_give_different_clips():
    first, second = (pixels(MovingShapesDataset(length=COMBINATIONS * 2, seed=s)) for s in (0, 1))
    everything = torch.cat([first, second]).flatten(1)
    assert len(everything.unique(dim=0)) == len(everything)


@pytest.mark.parametrize('context', ['fork', 'spawn'])
def test_workers_make_the_same_clips(clips, context):
    dataset = MovingShapesDataset(length=24, seed=3)
    loader = DataLoader(
        dataset,
        batch_size=4,
        num_workers=2 if context == 'fork' else 1,
        multiprocessing_context=context,
        collate_fn=pseudo_collate,
    )
    batches = [torch.stack(batch['inputs']) for batch in loader]
    torch.testing.assert_close(torch.cat(batches), clips[1][:24])


def test_forked_workers_fill_one_cache(monkeypatch):
    dataset = MovingShapesDataset(length=16)
    loader = DataLoader(
        dataset, num_workers=2, multiprocessing_context='fork', collate_fn=pseudo_collate
    )
    expected = torch.cat([torch.stack(batch['inputs']) for batch in loader])

    def fail(*args, **kwargs):
        raise AssertionError('rendered although a worker has made this clip')

    monkeypatch.setattr(MovingShapesDataset, '_render', fail)
    torch.testing.assert_close(pixels(dataset), expected)


@pytest.mark.parametrize('clone', [copy.deepcopy, lambda data: pickle.loads(pickle.dumps(data))])
def test_copies_are_equal_and_independent(clone):
    dataset = MovingShapesDataset(length=4)
    twin = clone(dataset)
    torch.testing.assert_close(pixels(twin), pixels(dataset))


def test_labels_are_balanced_and_independent():
    labels = MovingShapesDataset(length=3 * COMBINATIONS, cache=False).labels
    table = np.zeros((8, len(SHAPES), len(TEXTURES)), dtype=int)
    np.add.at(table, (labels['motion'], labels['shape'], labels['texture']), 1)
    assert (table == 3).all()
    # A short dataset is a mixture too, not one texture after the other.
    beginning = MovingShapesDataset(length=COMBINATIONS // 4, cache=False).labels
    assert {name: len(set(values)) for name, values in beginning.items()} == dict(
        motion=8, shape=6, texture=4
    )


def test_more_directions_and_speeds():
    dataset = MovingShapesDataset(
        length=COMBINATIONS, directions=8, speeds=[0.5], num_frames=3, cache=False
    )
    assert np.bincount(dataset.labels['motion']).tolist() == [24] * 8
    assert dataset.metainfo['motion_classes'][:3] == (
        'right at 0.5',
        'down-right at 0.5',
        'down at 0.5',
    )


def test_first_frame_is_the_same_for_every_motion():
    dataset = MovingShapesDataset(length=1, cache=False)
    first, *others = (dataset._render(0, motion, shape=3, texture=2) for motion in range(8))
    for other in others:
        np.testing.assert_array_equal(other[:, 0], first[:, 0])
        assert not np.array_equal(other[:, 1], first[:, 1])


def probe_accuracy(features, labels, num_train):
    """Accuracy on the rest of a ridge classifier fitted to the first `num_train` samples."""
    features = (features - features.mean(0)) / (features.std(0) + 1e-6)
    features = np.concatenate([features, np.ones((len(features), 1))], axis=1)
    train, test = features[:num_train], features[num_train:]
    gram = train.T @ train + 50 * np.eye(train.shape[1])
    weights = np.linalg.solve(gram, train.T @ np.eye(labels.max() + 1)[labels[:num_train]])
    return float(((test @ weights).argmax(1) == labels[num_train:]).mean())


def test_motion_is_read_from_two_frames_but_not_from_one():
    dataset = MovingShapesDataset(length=15 * COMBINATIONS, seed=5, cache=False)
    frames = luminance(pixels(dataset))
    motion = dataset.labels['motion']
    num_train = 10 * COMBINATIONS

    # Where the outlines and texture edges are, in the last frame: a start that is not uniform
    # would show here, since the shape would end up in places that depend on its motion.
    last = np.abs(frames[:, 7] - np.roll(frames[:, 7], 1, axis=-1)).reshape(-1, 8, 4, 8, 4)
    accuracy = probe_accuracy(last.mean((2, 4)).reshape(len(motion), -1), motion, num_train)
    chance, tests = 1 / 8, len(motion) - num_train
    assert accuracy < chance + 3 * np.sqrt(chance * (1 - chance) / tests)

    # The same dataset gives the motion away to whoever compares frames: of the eight
    # displacements after four frames, the one at which the frames' edges match best.
    edges = frames - np.roll(frames, 1, axis=-1) - np.roll(frames, 1, axis=-2)
    edges += np.roll(frames, (1, 1), axis=(-2, -1))
    spectra = np.fft.fft2(edges[:, [0, 4]])
    match = np.fft.ifft2(spectra[:, 1] * spectra[:, 0].conj()).real
    shifts = [(d * x, d * y) for x, y in [(1, 0), (0, 1), (-1, 0), (0, -1)] for d in (4, 10)]
    scores = np.stack([match[:, y, x] for x, y in shifts], axis=1)
    assert (scores.argmax(1) == motion).mean() > 0.9


def test_colors_say_nothing_about_the_labels():
    dataset = MovingShapesDataset(length=15 * COMBINATIONS, seed=6, cache=False, num_frames=None)
    frames = pixels(dataset).double()
    means = dict(zip('rgb', frames.mean((2, 3)).T, strict=True))
    for name, labels in dataset.labels.items():
        labels = torch.from_numpy(labels)
        for channel, values in means.items():
            groups = [values[labels == label] for label in labels.unique()]
            between = sum(len(g) * (g.mean() - values.mean()) ** 2 for g in groups)
            within = sum(((g - g.mean()) ** 2).sum() for g in groups)
            f_ratio = between / (len(groups) - 1) / (within / (len(values) - len(groups)))
            assert f_ratio < 4, f'{name} shows in channel {channel}'


def test_labels_change_only_their_own_part():
    dataset = MovingShapesDataset(length=1, size=64, num_frames=None, cache=False)
    disc, square = (dataset._render(0, 0, shape, texture=0).astype(int) for shape in (0, 1))
    striped, dotted = (dataset._render(0, 0, 0, texture).astype(int) for texture in (0, 3))
    # The background of one index stays the same, and fills more than half of the frame.
    for first, second in ((disc, square), (striped, dotted)):
        changed = (first != second).any(0)
        assert 0 < changed.mean() < 0.5
    assert ((disc != square).any(0) & (striped == dotted).all(0)).any()


def test_sizes_show_the_same_scene():
    small, large = (MovingShapesDataset(length=6, size=size, num_frames=4) for size in (32, 224))
    shrunk = torch.nn.functional.avg_pool3d(pixels(large).float(), (1, 7, 7))
    assert (shrunk - pixels(small)).abs().mean() < 3  # gray levels of 255


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        (dict(length=0), ValueError, 'length must be at least 1, but got 0'),
        (dict(length=2.0), TypeError, 'length must be an int, but got 2.0 of type float'),
        (dict(seed=-1), ValueError, 'seed must be at least 0, but got -1'),
        (dict(size=8), ValueError, 'size must be at least 16, but got 8'),
        (dict(num_frames=0), ValueError, 'num_frames must be at least 1, but got 0'),
        (dict(directions=3), ValueError, 'directions must be 4 or 8, but got 3'),
        (dict(speeds=()), ValueError, r'speeds must be .*, but got \(\)'),
        (dict(speeds=2.0), ValueError, 'speeds must be .*, but got 2.0'),
        (dict(speeds=(1, 1)), ValueError, r'speeds must be .* different .*, but got \(1, 1\)'),
        (dict(speeds=(1, 5)), ValueError, r'speeds must be .* at most 4.0 .*, but got \(1, 5\)'),
        (
            dict(length=1000, size=10**6),
            MemoryError,
            'cache=True needs .* GiB for length=1000, size=1000000.*; use cache=False',
        ),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        MovingShapesDataset(**{'length': 4, **arguments})


def test_captions_are_true():
    settings = dict(length=192, seed=4, size=16)
    data = MovingShapesDataset(**settings, captions=True)
    names = data.metainfo
    for index in range(0, 192, 7):
        sample = data[index]['data_samples']
        direction, speed = names['motion_classes'][sample.motion].split(' at ')
        texture = names['texture_classes'][sample.texture]
        pace = 'slowly' if speed == '1' else 'fast'
        assert sample.caption.endswith(f'moves {direction}, {pace}')
        assert names['shape_classes'][sample.shape] in sample.caption
        looks = dict(checker='checkered', dots='dotted').get(texture, f'with {texture}')
        assert looks in sample.caption
    assert len({data[i]['data_samples'].caption for i in range(192)}) == 192
    assert 'caption' not in MovingShapesDataset(**settings)[0]['data_samples']
    image = MovingShapesDataset(**settings, num_frames=None, captions=True)[0]['data_samples']
    assert 'moves' not in image.caption


HARD = dict(
    size=64,
    shapes='outlines',
    textures='waves',
    speeds=(1.0, 2.0),
    camera_speeds=(0.0, 1.0, 2.0),
    distractors=2,
    occluders=1,
)


@pytest.mark.parametrize('relief', [RELIEF, 0.4])
def test_outlines_have_one_area_and_differ(relief):
    fine = (np.arange(400, dtype=np.float32) + 0.5) / 100 - 2
    drawn = {
        name: _covered(outline, fine[None, None], fine[None, :, None], 0.0, 100.0)
        for name, outline in make_outlines(relief).items()
    }
    assert len(drawn) == 16
    areas = np.array([image.sum() / 100**2 for image in drawn.values()])
    np.testing.assert_allclose(areas, np.pi * (1 + relief**2), rtol=0.01)
    images = np.stack(list(drawn.values()))[:, 0]
    overlap = [(a * b).sum() / (a + b - a * b).sum() for a in images for b in images]
    assert (np.sort(np.reshape(overlap, (16, 16)), axis=1)[:, -2] < 0.9).all()


def test_waves_have_one_contrast():
    place = np.arange(400, dtype=np.float32) / 10
    for directions in WAVES.values():
        random = np.random.default_rng(0)
        pattern = _texture(directions, place[None, None], place[None, :, None], random)
        assert abs(pattern.mean()) < 0.02
        np.testing.assert_allclose(pattern.var(), 1, atol=0.03)


@pytest.mark.parametrize('part', [dict(shapes='outlines'), dict(textures='waves'), HARD])
def test_labels_of_hard_clips_are_all_combinations(part):
    dataset = MovingShapesDataset(length=5, cache=False, num_frames=4, **part)
    combinations = np.prod([len(classes) for classes in dataset.metainfo.values()])
    whole = MovingShapesDataset(length=int(combinations), cache=False, **part)
    rows = np.stack(list(whole.labels.values()), axis=1)
    assert len(np.unique(rows, axis=0)) == combinations
    sample = dataset[3]
    assert sample['inputs'].shape == (3, 4, *[part.get('size', 32)] * 2)
    assert sample['inputs'].dtype == torch.uint8
    assert ('camera' in sample['data_samples']) == ('camera_speeds' in part)
    assert {name for name in dataset.labels} <= set(sample['data_samples'].keys())


def test_the_picture_moves_against_the_camera():
    arguments = dict(HARD, distractors=1, occluders=1, cache=False, num_frames=4)
    dataset = MovingShapesDataset(length=1, **arguments)
    scene = dict(shape=np.zeros((2, ANGLES), np.float32), texture=(0.0,))  # of no size
    way = dict(right=(1, 0), down=(0, 1), left=(-1, 0), up=(0, -1), still=(0, 0))
    for name, velocity in zip(
        dataset.metainfo['camera_classes'], dataset._camera_velocities, strict=True
    ):
        direction, _, speed = name.partition(' at ')
        pixels = 2 * int(speed or 0) * np.array(way[direction])
        np.testing.assert_allclose(velocity, pixels, atol=1e-6)
        drawn = Scene(64, 4, **scene, velocity=np.zeros(2), camera=velocity, occluders=1)
        clip = drawn.render(np.random.default_rng(0)).astype(int)
        for time in range(4):  # all of it stands still in the world
            moved = np.roll(clip[:, 0], tuple(-time * pixels[::-1]), axis=(1, 2))
            assert np.abs(clip[:, time] - moved).max() <= 1


def test_the_object_moves_in_the_world_whatever_the_camera_does():
    arguments = dict(HARD, distractors=0, occluders=0, cache=False, num_frames=3)
    dataset = MovingShapesDataset(length=1, **arguments)
    names = dataset.metainfo['camera_classes']
    still = dataset._render_scene(0, 1, shape=2, texture=1, camera=names.index('still'))
    right = dataset._render_scene(0, 1, shape=2, texture=1, camera=names.index('right at 1'))
    np.testing.assert_array_equal(still[:, 0], right[:, 0])
    for time in range(3):  # the same world, seen from 2 pixels further right every frame
        seen = np.roll(still[:, time], -2 * time, axis=2).astype(int)
        assert np.abs(seen - right[:, time]).max() <= 1


def test_labels_of_hard_clips_are_in_their_pixels():
    sys.path.insert(0, str(Path(__file__).parent))
    from hard_clip_reader import CLIPS, accuracies

    found = accuracies(80)
    assert found['camera'] > 0.95 and found['motion'] > 0.8
    assert found['texture'] > 0.7 and found['shape'] > 0.55
    cfg = Config.fromfile(Path(__file__).parents[2] / 'configs/bimm/demo/joint_hard_shapes.py')
    data = {**cfg.probe_test.dataset, 'cache': False}
    assert {key: data[key] for key in CLIPS} == CLIPS


def test_hard_frames_of_one_index_are_one_path():
    short, long = (
        MovingShapesDataset(length=3, cache=False, num_frames=frames, **HARD) for frames in (2, 6)
    )
    torch.testing.assert_close(pixels(short), pixels(long)[:, :, :2])
    image = MovingShapesDataset(length=3, cache=False, num_frames=None, **HARD)
    torch.testing.assert_close(pixels(image), pixels(short)[:, :, 0])


def test_a_camera_is_in_the_caption():
    dataset = MovingShapesDataset(length=40, cache=False, captions=True, **HARD)
    names = dataset.metainfo
    for index in range(40):
        sample = dataset[index]['data_samples']
        camera = names['camera_classes'][sample.camera]
        pace = {'1': 'slowly', '2': 'fast'}.get(camera.split(' at ')[-1])
        end = f'moves {camera.split()[0]}, {pace}' if pace else 'stands still'
        assert sample.caption.endswith(f'; the camera {end}')
        shape, texture = (names[f'{k}_classes'][sample.get(k)] for k in ('shape', 'texture'))
        assert sample.caption.startswith(f'a {shape} with {texture} moves ')


def test_clips_kept_in_a_folder_are_found_again(tmp_path, monkeypatch):
    arguments = dict(length=6, cache=str(tmp_path), **HARD)
    expected = pixels(MovingShapesDataset(**arguments))
    assert len(list(tmp_path.iterdir())) == 1
    other = pixels(MovingShapesDataset(seed=1, **arguments))
    assert not torch.equal(other, expected) and len(list(tmp_path.iterdir())) == 2

    def fail(*args, **kwargs):
        raise AssertionError('rendered although the clip is kept')

    monkeypatch.setattr(MovingShapesDataset, '_render_scene', fail)
    again = MovingShapesDataset(**arguments)
    torch.testing.assert_close(pixels(again), expected)
    torch.testing.assert_close(pixels(pickle.loads(pickle.dumps(again))), expected)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(shapes='outline'), "shapes must be 'simple' or 'outlines', but got 'outline'"),
        (dict(textures=3), "textures must be 'edges' or 'waves', but got 3"),
        (dict(camera_speeds=(-1,)), 'camera_speeds must be .* of 0 or more'),
        (dict(distractors=-1), 'distractors must be at least 0'),
        (dict(occluders=-1), 'occluders must be at least 0'),
        (dict(max_turn=200), 'max_turn must be 0 to 180 degrees, but got 200'),
    ],
)
def test_bad_arguments_of_hard_clips_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        MovingShapesDataset(length=4, **arguments)


def test_clutter_dims_what_is_not_the_object():
    def spread(clutter):
        hard = dict(HARD, size=32, distractors=2, clutter=clutter, cache=False, num_frames=None)
        dataset = MovingShapesDataset(length=8, **hard)
        return np.mean([dataset[index]['inputs'].float().std() for index in range(8)])

    assert spread(0.0) < spread(0.3) < spread(1.0)


def test_the_default_relief_and_clutter_are_those_of_before():
    clip = MovingShapesDataset(length=4, cache=False, **HARD)[3]['inputs']
    assert (
        hashlib.sha1(clip.numpy().tobytes()).hexdigest()
        == '7eb33200041613e638717361d56729dd78e44950'
    )


@pytest.mark.parametrize('argument', [dict(relief=0.0), dict(relief=0.5), dict(clutter=1.5)])
def test_relief_and_clutter_outside_their_range_are_refused(argument):
    with pytest.raises(ValueError, match=f'{next(iter(argument))} must be'):
        MovingShapesDataset(length=1, **argument)
