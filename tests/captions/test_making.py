import json
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('transformers', reason='needs transformers')
av = pytest.importorskip('av', reason='needs PyAV')
sys.path.insert(0, str(Path(__file__).parents[1]))
from small_clip import write_blip2  # noqa: E402

from bimm_mm.captions.blip2 import Blip2Captioner, CaptionWriter, read_done, sample_frames  # noqa: E402
from bimm_mm.captions.file import CaptionFile  # noqa: E402

TOOL = Path(__file__).parents[2] / 'tools/dataset_converters/make_captions.py'


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    return write_blip2(tmp_path_factory.mktemp('blip2') / 'model')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Five videos of 9 frames, as gray as 20 times the frame's number, and a broken one."""
    folder = tmp_path_factory.mktemp('videos')
    for number in range(5):
        with av.open(str(folder / f'{number}.mp4'), 'w') as container:
            stream = container.add_stream('libx264', rate=25, options=dict(crf='1'))
            stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuv420p'
            for index in range(9):
                picture = np.full((48, 64, 3), 20 * index, np.uint8)
                frame = av.VideoFrame.from_ndarray(picture, format='rgb24')
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    (folder / 'broken.mp4').write_bytes(b'no video')
    return folder


class Brightness:
    """Says how bright a picture is, in place of a model; counts its pictures."""

    def __init__(self):
        self.count = 0

    def __call__(self, pictures):
        self.count += len(pictures)
        return [f'gray {round(picture.mean() / 20)}' for picture in pictures]


NAMES = ['0.mp4', '1.mp4', '2.mp4', '3.mp4', '4.mp4', 'broken.mp4']


def test_three_frames_are_the_middles_of_three_parts(folder):
    frames = sample_frames(folder / '0.mp4', 3)
    assert [round(frame.mean() / 20) for frame in frames] == [1, 4, 7]
    assert len(sample_frames(folder / '0.mp4', 12)) == 12


def test_a_stopped_run_is_continued(folder, tmp_path, capsys):
    out = tmp_path / 'captions.jsonl'
    whole = CaptionWriter(folder, out, Brightness(), videos_at_once=2)
    assert list(whole.run(NAMES)) == [0, 2, 2, 2] and whole.broken == ['broken.mp4']
    text = out.read_text()
    assert CaptionFile(out).get('3.mp4') == ['gray 1', 'gray 4', 'gray 7']
    lines = text.splitlines(keepends=True)
    out.write_text(''.join(lines[:2]) + lines[2][:-9])  # stopped in the middle of a line
    again = CaptionWriter(folder, out, Brightness(), videos_at_once=2)
    assert sum(again.run(NAMES)) == 6
    assert again.describe.count == 9 and out.read_text() == text
    assert read_done(out) == set(NAMES[:5])


def test_blip2_describes_pictures(checkpoint):
    describe = Blip2Captioner(checkpoint, max_new_tokens=5)
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    texts = describe([picture, np.zeros_like(picture)])
    assert len(texts) == 2 and all(isinstance(text, str) for text in texts)
    assert describe([picture]) == texts[:1]


def test_what_is_no_blip2_is_refused(tmp_path, checkpoint):
    with pytest.raises(FileNotFoundError, match='no BLIP-2 there.*blip2-opt-2.7b'):
        Blip2Captioner(tmp_path)
    shutil.copytree(checkpoint, tmp_path / 'part')
    for file in (tmp_path / 'part').glob('*.safetensors'):
        file.unlink()
    with pytest.raises(ValueError, match='cannot be read'):
        Blip2Captioner(tmp_path / 'part')


def run(monkeypatch, *arguments):
    monkeypatch.setattr('sys.argv', [str(TOOL), *map(str, arguments)])
    runpy.run_path(str(TOOL), run_name='__main__')


def test_the_tool_with_blip2_in_parts(checkpoint, folder, tmp_path, monkeypatch, capsys):
    settings = ['--checkpoint', checkpoint, '--device', 'cpu', '--max-tokens', 4]
    out = tmp_path / 'captions.jsonl'
    run(monkeypatch, 'blip2', folder, out, *settings, '--estimate', 2)
    assert '6 videos: 00:0' in capsys.readouterr().out and not out.exists()
    for part in range(2):
        run(monkeypatch, 'blip2', folder, out, *settings, '--shard', f'{part}/2')
    assert 'could not be read' in capsys.readouterr().out
    assert len(CaptionFile(tmp_path / 'captions.*_of_2.jsonl')) == 5
    assert (tmp_path / 'captions.1_of_2.broken.txt').read_text() == 'broken.mp4\n'
    with pytest.raises(SystemExit, match='no BLIP-2 there'):
        run(monkeypatch, 'blip2', folder, out, '--checkpoint', tmp_path, '--device', 'cpu')


def test_the_tool_with_labels_and_templates(tmp_path, monkeypatch):
    (tmp_path / 'list.txt').write_text('a b/1.mp4 1\nc.mp4 0\n')
    (tmp_path / 'classes.txt').write_text('riding_bike\nPlaying Cello\n')
    out = tmp_path / 'new/captions.jsonl'
    settings = ['--ann-file', tmp_path / 'list.txt', '--classes', tmp_path / 'classes.txt']
    run(monkeypatch, 'labels', out, *settings, '--templates', '{}', 'a video of {}')
    captions = CaptionFile(out)
    assert captions.get('a b/1.mp4') == ['Playing Cello', 'a video of Playing Cello']
    assert captions.get('c.mp4') == ['riding bike', 'a video of riding bike']
    with pytest.raises(SystemExit, match='one .{}. each'):
        run(monkeypatch, 'labels', out, *settings, '--templates', 'a video')
    (tmp_path / 'classes.txt').write_text('riding_bike\n')
    with pytest.raises(SystemExit, match='label 1 is none of the 1 classes'):
        run(monkeypatch, 'labels', out, *settings)


def test_the_tool_with_the_captions_of_ssv2(tmp_path, monkeypatch):
    entries = [dict(id='78687', label='holding potato next to vase', template='...')]
    (tmp_path / 'train.json').write_text(json.dumps(entries))
    run(monkeypatch, 'ssv2', tmp_path / 'a.jsonl', '--labels', tmp_path / 'train.json')
    assert CaptionFile(tmp_path / 'a.jsonl').get('78687.webm') == ['holding potato next to vase']
    (tmp_path / 'train.json').write_text('{"78687": "holding"}')
    with pytest.raises(SystemExit, match="is not SSv2's list"):
        run(monkeypatch, 'ssv2', tmp_path / 'a.jsonl', '--labels', tmp_path / 'train.json')
