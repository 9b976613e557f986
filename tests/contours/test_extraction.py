"""The real tool with a small Sam of random weights, on real clips and images."""

import hashlib
import os
import random
import re
import resource
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from bimm_mm.contours.cache import ContourCache
from bimm_mm.contours.format import ContourCacheError, ContourFile
from bimm_mm.contours.sam import load_sam

pytest.importorskip('segment_anything', reason='makes the contours')
cv2 = pytest.importorskip('cv2')
pytest.importorskip('decord', reason='decodes the videos')

REPO = Path(__file__).parents[2]
TOOL = REPO / 'tools/dataset_converters/extract_contours.py'
SMALL_SAM = REPO / 'tests/small_sam.py'
# masks of random weights have low scores: keep them all
SETTINGS = '--model-type small --points-per-side 2 --pred-iou-thresh -100'.split()
SETTINGS += '--stability-score-thresh 0 --short-side 64 --stride 60 --device cpu'.split()


@pytest.fixture(scope='module')
def data():
    folder = Path(os.environ.get('BIMM_TEST_DATA', REPO.parent / 'shared/data'))
    if not (folder / 'clips').is_dir() or not (folder / 'images').is_dir():
        pytest.skip(f'no clips/ and images/ in {folder}; BIMM_TEST_DATA names another folder')
    return folder


@pytest.fixture(scope='module')
def small_sam(tmp_path_factory):
    path = tmp_path_factory.mktemp('sam') / 'small.pth'
    torch.save(runpy.run_path(str(SMALL_SAM))['build']().state_dict(), path)
    return path


@pytest.fixture(scope='module')
def tool(small_sam):
    """Starts the tool; what is left of the process is returned."""

    def start(kind, folder, cache, *more, checkpoint=small_sam, file_size=None):
        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))

        command = [sys.executable, SMALL_SAM, TOOL, kind, folder, cache, *SETTINGS]
        return subprocess.Popen(
            [*map(str, command), '--checkpoint', str(checkpoint), *more],
            env=os.environ | dict(OMP_NUM_THREADS='1'),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=file_size and limit,
        )

    return start


@pytest.fixture(scope='module')
def run(tool):
    """Runs the tool to its end: exit status and output."""

    def finish(*args, **kwargs):
        process = tool(*args, **kwargs)
        output = process.communicate(timeout=300)[0]
        return process.returncode, output

    return finish


@pytest.fixture(scope='module')
def whole(run, data, tmp_path_factory):
    """A cache of the clips, made without disturbance."""
    cache = tmp_path_factory.mktemp('whole')
    status, output = run('videos', data / 'clips', cache)
    assert status == 0, output
    return cache


def checksums(cache):
    return {
        str(path.relative_to(cache)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in cache.rglob('*')
        if path.is_file()
    }


def test_contours_of_clips(whole, data):
    cache = ContourCache(whole)
    clips = sorted(path.name for path in (data / 'clips').iterdir())
    assert set(checksums(whole)) == {'contours.json', *(f'{name}.contours' for name in clips)}
    made_by = cache.manifest['made_by']
    assert (made_by['model_type'], made_by['stride'], made_by['short_side']) == ('small', 60, 64)
    shares = []
    for name in clips:
        reader = cv2.VideoCapture(str(data / 'clips' / name))
        with ContourFile(cache.file_of(name)) as file:
            header = file.header
            assert header['num_frames'] == reader.get(cv2.CAP_PROP_FRAME_COUNT)
            size = header['height'], header['width']
            assert size[::-1] == (reader.get(3), reader.get(4))
            assert len(file) == -(-header['num_frames'] // 60)
            assert header['made_by'] == made_by
        frames = cache.frames(name, range(header['num_frames']), header['num_frames'], size)
        assert min(frames[0].shape) == 64 and max(frame.max() for frame in frames) == 1
        shares.append(sum(frame.mean() for frame in frames) / len(frames))
    assert 0 < min(shares) and max(shares) < 0.3  # lines, neither nothing nor areas


def test_full_disk_then_killed_then_taken_up_again(tool, run, data, whole, tmp_path):
    status, output = run('videos', data / 'clips', tmp_path, file_size=600)
    assert status == 1 and f'cannot write {tmp_path}' in output, output
    assert re.search(r'run python \S*tools/dataset_converters/extract_contours\.py again', output)

    process = tool('videos', data / 'clips', tmp_path)
    while process.poll() is None:
        if sum(p.stat().st_size for p in tmp_path.glob('*.contours*')) > 1500:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.01)
    process.communicate()
    left = [path for path in tmp_path.glob('*.part')]
    for path in left:  # and torn in the middle of a record
        path.write_bytes(path.read_bytes()[:-1])
    status, output = run('videos', data / 'clips', tmp_path)
    assert status == 0, output
    assert checksums(tmp_path) == checksums(whole)


@pytest.mark.skipif('BIMM_LONG_TESTS' not in os.environ, reason='minutes; set BIMM_LONG_TESTS=1')
@pytest.mark.parametrize('kind, folder', [('videos', 'clips'), ('images', 'images')])
def test_killed_ten_times_at_random(tool, run, data, tmp_path, kind, folder):
    """At any moment: while it starts, loads, segments or writes."""
    more = ('--stride', '8', '--points-per-side', '4')
    assert run(kind, data / folder, tmp_path / 'whole', *more)[0] == 0
    start = time.monotonic()
    assert run(kind, data / folder, tmp_path / 'timed', *more)[0] == 0
    seconds = time.monotonic() - start
    moments = random.Random(0)
    for _ in range(10):
        process = tool(kind, data / folder, tmp_path / 'killed', *more)
        time.sleep(moments.uniform(0, 0.6) * seconds)
        process.kill()
        process.communicate()
    assert run(kind, data / folder, tmp_path / 'killed', *more)[0] == 0
    assert checksums(tmp_path / 'killed') == checksums(tmp_path / 'whole')


def test_two_shards_make_the_cache_of_one(tool, data, whole, tmp_path):
    shards = [tool('videos', data / 'clips', tmp_path, '--shard', f'{i}/2') for i in range(2)]
    for shard in shards:
        output = shard.communicate(timeout=300)[0]
        assert shard.returncode == 0, output
        assert 'files  2/2' in output  # of four
    assert checksums(tmp_path) == checksums(whole)


def test_images_from_a_list_and_broken_ones(run, data, tmp_path):
    images = tmp_path / 'images'
    images.mkdir()
    names = sorted(path.name for path in (data / 'images').iterdir())
    for name in names:
        (images / name).symlink_to(data / 'images' / name)
    (images / 'broken.jpg').write_bytes(b'no picture')
    (images / 'unlisted.jpg').write_bytes(b'no picture')
    ann_file = tmp_path / 'list.txt'
    ann_file.write_text(''.join(f'{name} 7\n' for name in [*names, 'broken.jpg']))
    for _ in range(2):  # the second run finds it all done, and reports the same
        status, output = run('images', images, tmp_path / 'cache', '--ann-file', str(ann_file))
        assert status == 0, output
        assert (tmp_path / 'cache/broken.txt').read_text() == 'broken.jpg\n'
    cache = ContourCache(tmp_path / 'cache')
    for name in names:
        size = cv2.imread(str(images / name)).shape[:2]
        assert min(cache.image(name, size).shape) == 64
    with pytest.raises(ContourCacheError, match="'broken.jpg' could not be read"):
        cache.image('broken.jpg', (10, 10))
    with pytest.raises(ContourCacheError, match="no contour of 'unlisted.jpg'"):
        cache.image('unlisted.jpg', (10, 10))
    with pytest.raises(ContourCacheError, match=f"does not fit '{names[0]}'.*it has 10x10"):
        cache.image(names[0], (10, 10))


def test_a_broken_video_does_not_stop_the_run(run, data, tmp_path):
    videos = tmp_path / 'videos'
    videos.mkdir()
    (videos / 'a.mp4').write_bytes(b'no video')
    (tmp_path / 'elsewhere').mkdir()
    (tmp_path / 'elsewhere/b.mp4').symlink_to(data / 'clips/pool_32frames.mp4')
    (videos / 'linked').symlink_to(tmp_path / 'elsewhere')
    status, output = run('videos', videos, tmp_path / 'cache')
    assert status == 0, output
    assert (tmp_path / 'cache/broken.txt').read_text() == 'a.mp4\n'
    assert (tmp_path / 'cache/linked/b.mp4.contours').is_file()


def test_other_settings_do_not_go_on_in_the_same_cache(run, data, whole):
    before = checksums(whole)
    status, output = run('videos', data / 'clips', whole, '--stride', '30')
    assert status == 1 and 'made_by.stride was 60, now 30' in output
    assert checksums(whole) == before


def test_damaged_file_is_named_with_what_mends_it(whole, tmp_path):
    source = whole / 'pool_32frames.mp4.contours'
    (tmp_path / 'contours.json').write_bytes((whole / 'contours.json').read_bytes())
    data = bytearray(source.read_bytes())
    copy = tmp_path / source.name
    mends = f'{copy} is damaged or not finished: delete that file and run bimm extract-contours'
    copy.write_bytes(data[:-30])  # truncated
    with pytest.raises(ContourCacheError, match=mends):
        ContourFile(copy)
    with ContourFile(source) as file:
        data[int(file.offsets[0]) + 40] ^= 1  # a bit of the contour
    copy.write_bytes(data)
    with pytest.raises(ContourCacheError, match=f'record 0 of {mends}'):
        ContourCache(tmp_path).frames('pool_32frames.mp4', [0], 32, (256, 340))


def test_checkpoints_that_are_none(run, data, small_sam, tmp_path):
    missing = tmp_path / 'no.pth'
    status, output = run('videos', data / 'clips', tmp_path / 'c', checkpoint=missing)
    assert status == 1 and f'no SAM checkpoint {str(missing)!r}' in output
    assert not (tmp_path / 'c').exists()
    (tmp_path / 'other.pth').write_bytes(b'no weights')
    with pytest.raises(ValueError, match="other.pth' cannot be read as a checkpoint of weights"):
        load_sam(str(tmp_path / 'other.pth'), 'vit_b', 'cpu')
    with pytest.raises(ValueError, match="small.pth' is not a checkpoint of a SAM of type 'vit_b'"):
        load_sam(str(small_sam), 'vit_b', 'cpu')
    with pytest.raises(ValueError, match="model_type='vit_x' must be one of .*vit_b"):
        load_sam(str(small_sam), 'vit_x', 'cpu')
