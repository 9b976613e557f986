"""Repeated sampling, decoding by PyAV, and the benchmark that measures both."""

import json
import os
import random
from pathlib import Path

import cv2
import numpy as np
import pytest

decord = pytest.importorskip('decord', reason='decodes the videos')
pytest.importorskip('mmaction', reason='needs mmaction2')
pytest.importorskip('av', reason='AvInit decodes by PyAV')

from mmengine.config import Config  # noqa: E402
from mmengine.registry import DATASETS, init_default_scope  # noqa: E402

from bimm_mm.models.data_preprocessors import ClipDataPreprocessor  # noqa: E402

REPO = Path(__file__).parents[2]
CONFIG = REPO / 'configs/bimm/joint_k400_vitb_edge.py'
FRAMES = 90


@pytest.fixture(scope='module')
def tool(load_script):
    return load_script('benchmarks/loader.py')


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """One video; frame i is of the gray value 2 * i, with a brighter left edge."""
    folder = tmp_path_factory.mktemp('videos')
    writer = cv2.VideoWriter(
        str(folder / 'gray.mp4'), cv2.VideoWriter_fourcc(*'mp4v'), 25, (128, 96)
    )
    for number in range(FRAMES):
        frame = np.full((96, 128, 3), 2 * number, np.uint8)
        frame[:, :32] += 40
        writer.write(frame)
    writer.release()
    return folder


def build(folder: Path, **settings):
    cfg = Config.fromfile(CONFIG)
    init_default_scope(cfg.default_scope)
    dataset = cfg.train_dataloader.dataset
    dataset.update(data_root=str(folder), **settings)
    dataset.pipeline[0].type = settings.pop('init', dataset.pipeline[0].type)
    dataset.pop('init', None)
    return DATASETS.build(dataset)


@pytest.mark.parametrize('init', ['mmaction.DecordInit', 'AvInit'])
def test_each_repeat_has_frames_and_a_crop_of_its_own(folder, init):
    np.random.seed(0)
    random.seed(0)
    sample = build(folder, num_repeats=4, init=init)[0]
    clips = sample['inputs']
    assert clips.shape == (4, 3, 16, 224, 224)
    right = clips[:, 0, :, 112, 200].int()  # gray value 2 * i in most crops, more in none
    starts = (right[:, 0] / 2).tolist()
    assert len({round(start) for start in starts}) > 1
    for clip in right:  # every fourth frame, to the precision of the codec
        assert clip.diff().float().mean().item() == pytest.approx(8, abs=0.3)
    # the brighter edge is cut differently
    edges = [(clip[0, 0] > clip[0, 0, :, -1:] + 15).float().mean() for clip in clips.int()]
    assert len({round(float(edge), 2) for edge in edges}) > 1
    batch = ClipDataPreprocessor()(dict(inputs=[clips, clips]))
    assert batch['inputs'].shape == (8, 3, 16, 224, 224)


def test_one_repeat_is_the_plain_pipeline_on_the_same_draw(folder, monkeypatch):
    """With chance switched off, clips of repeated sampling equal a clip of plain sampling."""
    monkeypatch.setattr(np.random, 'randint', lambda low, high=None, size=None: np.array([5]))
    monkeypatch.setattr('random.choice', lambda options: options[0])
    plain = build(folder)[0]['inputs']
    repeated = build(folder, num_repeats=2)[0]['inputs']
    assert plain.equal(repeated[:1]) and plain.equal(repeated[1:])


def test_num_repeats_must_be_positive_and_needs_a_decoder(folder):
    with pytest.raises(ValueError, match='num_repeats=0 must be at least 1'):
        build(folder, num_repeats=0)
    dataset = build(folder, num_repeats=2, test_mode=True)
    dataset.pipeline.transforms.pop(0)
    with pytest.raises(RuntimeError, match='need a pipeline of VideoInit'):
        dataset[0]


def test_a_broken_video_is_told(tmp_path):
    (tmp_path / 'broken.mp4').write_bytes(b'no video')
    with pytest.raises(RuntimeError, match='All 1 samples are broken.*\n.*broken.mp4'):
        build(tmp_path, init='AvInit')[0]


def test_the_peer_makes_a_clip_of_floats(tool, folder):
    tool.seed(0)
    clip = tool.peer_clip(str(folder / 'gray.mp4'))
    assert clip.shape == (48, 224, 224) and clip.dtype.is_floating_point
    means = clip[::3].mean((1, 2)) * 255 / 2  # of every fourth frame, of gray value 2 * i
    assert means.diff().mean().item() == pytest.approx(4, abs=0.2)


def test_all_ways_are_measured_side_by_side(tool, folder, tmp_path, capsys):
    report = tmp_path / 'figures.json'
    affinity = os.sched_getaffinity(0)
    arguments = ['--rewritten', str(folder), '--draws', '2', '--json', str(report)]
    tool.main([str(folder), '--config', str(CONFIG), '--repeats', '1', '2', *arguments])
    assert os.sched_getaffinity(0) == affinity
    figures = json.loads(report.read_text())
    ways = [row['clips'] for row in figures['rates']]
    assert ways[:3] == ['peer', 'R = 1', 'R = 1, in the worker itself'] and len(ways) == 9
    assert figures['rates'][0]['beside the peer'] == 1
    assert all(row['ms per clip'] > 0 for row in figures['rates'])
    assert [row['clips'] for row in figures['watching']] == [
        'R = 1',
        'R = 1, rewritten',
        'R = 2',
        'R = 2, rewritten',
    ]
    assert figures['steps'][0]['VideoDecode'] > 0 and figures['steps'][0]['convert to RGB'] > 0
    assert '| R = 2, rewritten |' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['nowhere'], 'existing folder of videos'),
        (['.', '--config', 'configs/bimm/nothing.py'], 'no config file'),
        (['.', '--config', str(REPO / 'configs/bimm/demo/joint_shapes.py')], 'not on a VideoFol'),
    ],
)
def test_mistakes_are_told(tool, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    if '--config' not in arguments:
        arguments = [*arguments, '--config', str(CONFIG)]
    with pytest.raises(SystemExit, match=message):
        tool.main(arguments)
