"""Videos in tar shards are those that were packed, in every way of reading them."""

import json
import pickle
import random
import tarfile

import numpy as np
import pytest
import torch

pytest.importorskip('mmaction', reason='needs mmaction2')
av = pytest.importorskip('av', reason='decodes the videos')

from bimm_mm.datasets.labeled import LabeledVideoDataset  # noqa: E402
from bimm_mm.datasets.shards import ShardPacker  # noqa: E402
from bimm_mm.datasets.verify import problem_of  # noqa: E402
from bimm_mm.datasets.video import VideoFolderDataset  # noqa: E402
from bimm_mm.utils.lists import read_list  # noqa: E402
from bimm_mm.video import UnsupportedVideo, open_video  # noqa: E402
from bimm_mm.video.parts import part_of  # noqa: E402

LIST = 'b/two words.mp4 1\na.mp4 0\nb/c.mkv 60 1\nd.avi 0\n'
PIPELINE = [
    dict(type='VideoInit'),
    dict(type='mmaction.SampleFrames', clip_len=4, frame_interval=2),
    dict(type='VideoDecode'),
    dict(type='mmaction.FormatShape', input_format='NCTHW'),
    dict(type='mmaction.PackActionInputs'),
]


def write_video(path, seed):
    path.parent.mkdir(exist_ok=True)
    noise = np.random.default_rng(seed)
    with av.open(str(path), 'w') as file:
        stream = file.add_stream('mpeg4', rate=10)
        stream.width, stream.height = 64, 48
        for _ in range(20):
            image = np.kron(noise.integers(256, size=(6, 8, 3)), np.ones((8, 8, 1))).astype('u1')
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
        file.mux(stream.encode(None))


@pytest.fixture(scope='module')
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp('videos')
    (folder / 'list.txt').write_text(LIST)
    for seed, path in enumerate(read_list(folder / 'list.txt').paths()):
        write_video(folder / path, seed)
    return folder


TOOL = 'tools/dataset_converters/make_shards.py'


@pytest.fixture(scope='module')
def pack(call_tool, videos):
    def call(output, *options):
        list_file = videos / 'list.txt'
        call_tool(TOOL, videos, output, '--ann-file', list_file, '--shard-size', '0.008', *options)

    return call


@pytest.fixture(scope='module')
def shards(pack, tmp_path_factory):
    output = tmp_path_factory.mktemp('shards')
    pack(output)
    return output


def samples_of(dataset):
    found = []
    for index in range(len(dataset)):
        random.seed(index), np.random.seed(index), torch.manual_seed(index)
        sample = dataset[index]
        assert 'replaced' not in sample['data_samples']
        found.append((sample['inputs'], sample['data_samples'].gt_label))
    return found


@pytest.mark.parametrize('kind', [VideoFolderDataset, LabeledVideoDataset])
def test_samples_are_those_of_the_files(videos, shards, kind):
    settings = dict(pipeline=PIPELINE, data_prefix=dict(video=''))
    if kind is LabeledVideoDataset:
        settings.update(num_classes=2)
    files = kind(data_root=str(videos), ann_file='list.txt', **settings)
    packed = kind(data_root=str(shards), ann_file='index.txt', **settings)
    assert len(list(shards.glob('*.tar'))) > 1
    assert len(packed) == len(files) == 4
    for one, other in zip(samples_of(files), samples_of(packed), strict=True):
        assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])


def test_the_layout_is_that_of_webdataset(shards):
    numbers = []
    for path in sorted(shards.glob('*.tar')):
        with tarfile.open(path) as tar:
            names = tar.getnames()
            keys = [name.partition('.')[0] for name in names]
            assert keys == sorted(keys, key=keys.index)  # what belongs together is together
            for key in dict.fromkeys(keys):
                parts = {n.partition('.')[2]: n for n in names if n.startswith(key)}
                assert parts.keys() - {'mp4', 'mkv', 'avi'} == {'json', 'cls'}
                about = json.load(tar.extractfile(parts['json']))
                line = LIST.splitlines()[int(key)]
                assert line == ' '.join([about['path'], *about['fields']])
                assert tar.extractfile(parts['cls']).read().decode() == line[-1]
            numbers += map(int, dict.fromkeys(keys))
    assert sorted(numbers) == [0, 1, 2, 3] and numbers != [0, 1, 2, 3]


def test_every_reader_reads_them_or_says_so(videos, shards):
    pytest.importorskip('decord', reason='is a backend')
    for entry in read_list(shards / 'index.txt'):
        path = shards / entry.path
        original = open_video(videos / part_of(path).name)
        for timeout in (None, 60.0):
            video = open_video(path, timeout=timeout)
            assert np.array_equal(video.get_batch([3, 19]), original.get_batch([3, 19]))
        assert problem_of(path) is None
        with pytest.raises(UnsupportedVideo, match='a video in a tar file; pyav can'):
            open_video(path, 'decord')


def test_packing_goes_on_where_it_stopped(pack, videos, shards, tmp_path):
    packer = ShardPacker(read_list(videos / 'list.txt'), videos, tmp_path, 8_000)
    list(packer.pack(0))
    packing = packer.pack(1)
    next(packing)  # killed in the middle
    del packing
    before = packer.path(0).stat().st_mtime_ns
    pack(tmp_path)
    assert packer.path(0).stat().st_mtime_ns == before
    names = sorted(path.name for path in shards.iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert all((tmp_path / n).read_bytes() == (shards / n).read_bytes() for n in names)


def test_machines_share_the_work(pack, shards, tmp_path, capsys):
    pack(tmp_path, '--part', '1/2')
    assert 'when all parts are done' in capsys.readouterr().out
    pack(tmp_path, '--part', '0/2')
    assert (tmp_path / 'index.txt').read_text() == (shards / 'index.txt').read_text()


def test_what_does_not_fit_is_told(call_tool, pack, videos, shards, tmp_path):
    with pytest.raises(SystemExit, match='holds shards of another list, or of other settings'):
        pack(shards, '--in-order')
    (videos / 'wrong.txt').write_text('a.mp4 0\ngone.mp4 0\n')
    with pytest.raises(SystemExit, match=r'wrong.txt, line 2: .*gone.mp4: No such file.*verify'):
        call_tool(TOOL, videos, tmp_path, '--ann-file', videos / 'wrong.txt')


def test_contours_and_captions_go_by_the_name_that_a_video_had(videos, shards, tmp_path):
    from bimm_mm.captions.file import format_line
    from bimm_mm.contours.format import SUFFIX
    from bimm_mm.contours.writer import write_manifest

    (tmp_path / 'cache').mkdir()
    write_manifest(tmp_path / 'cache', 'videos', {})
    names = list(read_list(videos / 'list.txt').paths())
    for name in names:
        path = tmp_path / 'cache' / (name + SUFFIX)
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / 'captions.jsonl').write_text(''.join(format_line(n, [f'of {n}']) for n in names))
    beside = dict(
        contour_cache=str(tmp_path / 'cache'), caption_file=str(tmp_path / 'captions.jsonl')
    )
    for folder, ann_file in ((videos, 'list.txt'), (shards, 'index.txt')):
        dataset = VideoFolderDataset(str(folder), ann_file=ann_file, **beside)
        dataset = pickle.loads(pickle.dumps(dataset))  # as for workers that are not forked
        for index, name in enumerate(names):
            info = dataset.get_data_info(index)
            assert info['contours'] == (beside['contour_cache'], name)
            assert info['captions'] == [f'of {name}']
    (tmp_path / 'cache' / (names[2] + SUFFIX)).unlink()
    with pytest.raises(ValueError, match=f"no contours of 1 of 4 videos, as '{names[2]}'"):
        VideoFolderDataset(str(shards), ann_file='index.txt', contour_cache=beside['contour_cache'])
