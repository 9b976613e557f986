"""Videos that a decoder fails, crashes or hangs on."""

import os
import re
import signal
import threading
import time

import cv2
import numpy as np
import pytest
from mmengine.dataset import pseudo_collate
from torch.utils.data import DataLoader

pytest.importorskip('mmaction', reason='needs mmaction2')
pytest.importorskip('av', reason='decodes the videos')

from bimm_mm.datasets.labeled import (  # noqa: E402
    LabeledVideoDataset,
    RepeatedVideoDataset,
    VideoRegressionDataset,
)
from bimm_mm.datasets.video import VideoFolderDataset  # noqa: E402
from bimm_mm.video import VideoError, VideoTimeout, open_video  # noqa: E402
from bimm_mm.video.isolated import DECODERS, PROGRAM  # noqa: E402

LOADING = [
    dict(type='VideoInit'),
    dict(type='SampleFrames', clip_len=4, frame_interval=2),
    dict(type='VideoDecode'),
]
PIPELINE = [
    *LOADING,
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]


@pytest.fixture(scope='module', autouse=True)
def mmaction_scope():
    for part in PIPELINE:
        part['_scope_'] = 'mmaction'


def write_video(path, seed=0, frames=20):
    noise = np.random.default_rng(seed)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 10, (64, 48))
    for _ in range(frames):
        writer.write(np.kron(noise.integers(256, size=(6, 8, 3)), np.ones((8, 8, 1))).astype('u1'))
    writer.release()
    return str(path)


@pytest.fixture
def folder(tmp_path):
    """good.avi, and a list of it and of broken ones of all kinds."""
    good = open(write_video(tmp_path / 'good.avi'), 'rb').read()
    (tmp_path / 'cut.avi').write_bytes(good[: len(good) // 2])
    (tmp_path / 'header.avi').write_bytes(good[:2000])
    (tmp_path / 'empty.avi').touch()
    (tmp_path / 'text.avi').write_text('no video')
    (tmp_path / 'folder.avi').mkdir()
    os.mkfifo(tmp_path / 'hangs.avi')  # whoever opens it waits for somebody who writes
    return tmp_path


def dataset(folder, *names, **kwargs):
    (folder / 'list.txt').write_text(''.join(f'{name}.avi 0\n' for name in names))
    return VideoFolderDataset(str(folder), PIPELINE, ann_file='list.txt', **kwargs)


def test_two_videos_are_open_at_once(tmp_path):
    paths = [write_video(tmp_path / f'{seed}.avi', seed) for seed in (0, 1)]
    videos = [open_video(path, timeout=60.0) for path in paths]
    for index in (0, 1, 0):
        direct = open_video(paths[index])
        assert len(videos[index]) == len(direct) == 20 and videos[index].fps == direct.fps == 10
        frames = videos[index].get_batch([3, 7, 7, 0])
        np.testing.assert_array_equal(frames, direct.get_batch([3, 7, 7, 0]))


def test_frames_stay_while_others_are_decoded(tmp_path):
    """Shared memory is used again when the frames in it are gone, and no earlier."""
    path = write_video(tmp_path / 'a.avi')
    video, direct = open_video(path, timeout=60.0), open_video(path)
    held = video.get_batch([0])
    process = DECODERS.process
    others = len(process.known) - len(process.spare)  # of tests before, and the one above
    kept = [video.get_batch([index])[0] for index in range(20)]
    for index, frame in enumerate(kept):
        np.testing.assert_array_equal(frame, direct.get_batch([index])[0])
    assert len(process.known) >= 20
    del kept, frame, held
    video.get_batch([1])
    assert len(process.spare) <= 3 and len(process.known) - len(process.spare) <= others


@pytest.mark.parametrize('pipeline', ['VideoInit', 'DecordInit', 'AvInit'])
def test_pipelines_decode_elsewhere(tmp_path, pipeline):
    write_video(tmp_path / 'a.avi')
    loading = [dict(type=pipeline, _scope_='mmaction'), *PIPELINE[1:]]
    if pipeline != 'VideoInit':
        loading[2] = dict(type='DecordDecode', _scope_='mmaction')
    videos = VideoFolderDataset(str(tmp_path), loading, decode_timeout=7.0)
    assert videos.pipeline.transforms[0].timeout == 7.0
    assert videos[0]['inputs'].shape == (1, 3, 4, 48, 64)


@pytest.mark.parametrize(
    ('name', 'reason'),
    [
        ('header', r'no frame|cannot be (opened|decoded).*|frame .* cannot be decoded'),
        ('empty', 'empty file'),
        ('text', r'cannot be opened \(.+\)'),
        ('folder', 'Is a directory'),
        ('vanished', 'No such file or directory'),
    ],
)
def test_broken_video_is_replaced(folder, name, reason):
    replaced = dataset(folder, 'good', name)[1]['data_samples'].replaced
    (path, found), *more = replaced
    assert path == str(folder / f'{name}.avi') and not more
    assert re.fullmatch(reason, found)


def test_truncated_video_is_decoded_or_replaced(folder):
    good, cut = (dataset(folder, 'good', 'cut')[index] for index in (0, 1))
    assert good['inputs'].shape == cut['inputs'].shape == (1, 3, 4, 48, 64)


def test_decoder_that_hangs_is_given_up_once(folder):
    videos = dataset(folder, 'good', 'hangs', decode_timeout=2.0)
    start = time.perf_counter()
    assert videos[1]['data_samples'].replaced[0][1] == 'the decoder took longer than 2 s'
    assert 2 <= time.perf_counter() - start < 20
    process = DECODERS.process.process  # the one that decoded the other video
    assert videos[1]['data_samples'].replaced[0][1] == 'the decoder took longer than 2 s'
    assert DECODERS.process.process is process  # nobody waited again
    with pytest.raises(VideoTimeout):
        open_video(folder / 'hangs.avi', timeout=2.0)
    with pytest.raises(ValueError, match='decode_timeout=0 must be a positive number of seconds'):
        dataset(folder, 'good', decode_timeout=0)


def test_decoder_that_crashes_is_replaced(folder):
    open_video(folder / 'good.avi', timeout=60.0)
    threading.Timer(0.3, os.kill, (DECODERS.process.process.pid, signal.SIGSEGV)).start()
    with pytest.raises(VideoError, match=r'^the decoder crashed \(SIGSEGV\)$'):
        open_video(folder / 'hangs.avi', timeout=60.0)
    assert len(open_video(folder / 'good.avi', timeout=60.0)) == 20
    DECODERS.process.process.kill()  # while it has nothing to do: no video is to blame
    DECODERS.process.process.wait()
    assert len(open_video(folder / 'good.avi', timeout=60.0)) == 20


def test_every_worker_has_a_decoder_which_ends_with_it(folder):
    videos = dataset(folder, *['good', 'text'] * 4)
    videos[0]  # the parent has one already
    loader = DataLoader(videos, 2, num_workers=2, collate_fn=pseudo_collate)
    batches = list(loader)
    replaced = [s.get('replaced') is not None for b in batches for s in b['data_samples']]
    assert replaced == [False, True] * 4
    deadline = time.monotonic() + 10
    while (left := decoders()) != {DECODERS.process.process.pid} and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == {DECODERS.process.process.pid}


WORKER = os.environ.get('PYTEST_XDIST_WORKER')


def decoders():
    """The processes of this user that decode for a process of this program, or for none."""
    found = set()
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try:
            command = open(f'/proc/{pid}/cmdline').read().split('\0')
            state = open(f'/proc/{pid}/stat').read().rpartition(')')[2].split()
            environment = open(f'/proc/{pid}/environ').read().split('\0')
        except OSError:
            continue
        # with several processes of tests, each has decoders
        own = WORKER is None or f'PYTEST_XDIST_WORKER={WORKER}' in environment
        if own and PROGRAM[0] in command and state[0] != 'Z' and int(state[2]) == os.getpgrp():
            found.add(int(pid))
    return found


def test_labeled_videos_are_replaced_too(folder):
    lines = 'good.avi 1\ntext.avi 0\n'
    (folder / 'list.txt').write_text(lines)
    args = dict(data_root=str(folder), ann_file='list.txt', data_prefix=dict(video=''))
    for kind in (LabeledVideoDataset, RepeatedVideoDataset):
        videos = kind(pipeline=[dict(p) for p in PIPELINE], num_classes=2, **args)
        sample = videos[1]
        clips = sample if isinstance(sample, list) else [sample]
        assert all(clip['data_samples'].gt_label.item() == 1 for clip in clips)
        assert clips[0]['data_samples'].replaced[0][0] == str(folder / 'text.avi')
    args['ann_file'] = str(folder / 'list.txt')
    sample = VideoRegressionDataset(pipeline=PIPELINE, **args)[1]
    assert sample['data_samples'].gt_label.item() == 1
