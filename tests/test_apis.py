"""bimm_mm.apis and tools/inference.py on videos written by the test."""

import csv
import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

pytest.importorskip('mmaction', reason='the recipes are mmaction2')
pytest.importorskip('decord', reason='decodes the videos')

from bimm_mm.apis import VideoError, VideoModel, find_videos, run  # noqa: E402

REPO = Path(__file__).parents[1]
ARCH = dict(embed_dims=16, depth=12, num_heads=2)


@pytest.fixture(scope='module')
def config(tmp_path_factory) -> Path:
    """The recipe for UCF101, with a small encoder and one clip."""
    path = tmp_path_factory.mktemp('config') / 'small.py'
    cfg = Config.fromfile(REPO / 'configs/bimm/finetune_ucf101_vitb.py')
    cfg.model.backbone.arch = ARCH
    cfg.model.cls_head.in_channels = 16
    cfg.test_dataloader.dataset.pipeline[1].num_clips = 2
    cfg.dump(path)
    return path


@pytest.fixture(scope='module')
def checkpoint(config) -> Path:
    """A model whose head likes class 7 best."""
    cfg = Config.fromfile(config)
    cfg.model.backbone.init_cfg = None
    torch.manual_seed(0)
    init_default_scope('mmaction')
    model = MODELS.build(cfg.model)
    model.cls_head.fc_cls.weight.data.zero_()
    model.cls_head.fc_cls.bias.data.zero_()
    model.cls_head.fc_cls.bias.data[7] = 2.0
    model.cls_head.fc_cls.bias.data[3] = 1.0
    path = config.with_name('model.pth')
    torch.save(dict(state_dict=model.state_dict()), path)
    return path


@pytest.fixture(scope='module')
def model(config, checkpoint) -> VideoModel:
    return VideoModel(config, checkpoint, device='cpu')


@pytest.fixture
def videos(tmp_path) -> Path:
    """Two good videos, one shorter than a clip, and three that cannot be decoded."""
    folder = tmp_path / 'videos'
    (folder / 'sub').mkdir(parents=True)
    generator = np.random.default_rng(0)
    for name, frames in (('long.mp4', 40), ('sub/short.mp4', 5)):
        size = (64, 48)
        writer = cv2.VideoWriter(str(folder / name), cv2.VideoWriter_fourcc(*'mp4v'), 25, size)
        for _ in range(frames):
            writer.write(generator.integers(0, 255, (48, 64, 3), dtype=np.uint8))
        writer.release()
    whole = (folder / 'long.mp4').read_bytes()
    (folder / 'truncated.mp4').write_bytes(whole[: len(whole) // 2])
    (folder / 'empty.mp4').touch()
    (folder / 'text.mp4').write_text('no video')
    return folder


BROKEN = ('empty.mp4', 'text.mp4', 'truncated.mp4')


def test_classes_with_the_best_first(model, videos):
    best, second = model.classify(videos / 'long.mp4', top=2)
    assert (best.label, second.label) == (7, 3)
    assert best.score == pytest.approx(np.e**2 / (np.e**2 + np.e + 99), abs=1e-4)
    assert len(model.classify(videos / 'sub/short.mp4', top=1000)) == 101


def test_features_are_the_backbones_averaged_over_views(model, videos):
    feature = model.features(videos / 'long.mp4')
    sample = model.read(videos / 'long.mp4')
    assert sample['inputs'].shape == (6, 3, 16, 224, 224)  # 2 clips of 3 crops
    assert (feature.shape, feature.dtype) == ((16,), np.float32)
    mean, std = ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])
    mean, std = (torch.tensor(values).view(3, 1, 1, 1) for values in (mean, std))
    with torch.no_grad():
        wanted = model.model.backbone((sample['inputs'] - mean) / std)[0].mean(0)
    np.testing.assert_allclose(feature, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('name', BROKEN)
def test_broken_videos_are_named(model, videos, name):
    with pytest.raises(VideoError, match=f'{videos}/{name}'):
        model.features(videos / name)


def test_missing_files_and_folders(model, videos, tmp_path):
    with pytest.raises(FileNotFoundError, match='gone.mp4'):
        model.classify(videos / 'gone.mp4')
    with pytest.raises(FileNotFoundError, match='no such file or folder: .*gone'):
        find_videos(videos / 'gone')
    (tmp_path / 'none').mkdir()
    with pytest.raises(FileNotFoundError, match='holds no file ending in'):
        find_videos(tmp_path / 'none')


@pytest.mark.skipif(os.geteuid() == 0, reason='root may read every file')
def test_no_permission(model, videos):
    (videos / 'long.mp4').chmod(0)
    with pytest.raises(PermissionError, match='long.mp4'):
        model.classify(videos / 'long.mp4')


def test_a_folder_goes_on_after_a_broken_video(videos):
    def function(video):
        if video.name in BROKEN:
            raise VideoError(str(video))
        return video.stem

    results = {path.name: result for path, result in run(function, videos)}
    assert results.pop('long.mp4') == 'long' and results.pop('short.mp4') == 'short'
    assert set(results) == set(BROKEN)
    assert all(isinstance(error, VideoError) for error in results.values())


def test_an_encoder_alone_gives_features_but_no_classes(config, checkpoint, videos, model):
    state = torch.load(checkpoint)['state_dict']
    state = {k.removeprefix('backbone.'): v for k, v in state.items() if k.startswith('backbone.')}
    path = config.with_name('encoder.pth')
    torch.save(dict(state_dict=state), path)
    encoder = VideoModel(config, path, device='cpu')
    wanted = model.features(videos / 'sub/short.mp4')
    np.testing.assert_allclose(encoder.features(videos / 'sub/short.mp4'), wanted, atol=1e-5)
    with pytest.raises(
        ValueError, match='no classes, only features: .*encoder.pth holds an encoder and no'
    ):
        encoder.classify(videos / 'long.mp4')


def test_a_head_for_another_number_of_classes_is_told(config, checkpoint, videos):
    cfg = Config.fromfile(config)
    cfg.model.cls_head.num_classes = 5
    with pytest.raises(ValueError, match=r'only features: (.|\n)*shape \(101, 16\).*\(5, 16\)'):
        VideoModel(cfg, checkpoint, device='cpu').classify(videos / 'long.mp4')


def test_the_tool(config, checkpoint, videos, call_tool, capsys, tmp_path):
    def call(*arguments):
        with pytest.raises(SystemExit) as stop:
            call_tool('tools/inference.py', *arguments)
        return stop.value.code, capsys.readouterr()

    names = tmp_path / 'names.txt'
    names.write_text('\n'.join(f'class {i}' for i in range(101)))
    short = videos / 'sub/short.mp4'
    options = ('--device', 'cpu', '--top', '1')
    code, text = call(config, checkpoint, short, '--classes', names, *options)
    assert code == 0
    assert text.out.splitlines() == [str(short), '    6.8%  class 7']

    table = tmp_path / 'out.csv'
    code, text = call(config, checkpoint, videos, '--classes', names, '--out', table, *options)
    rows = {Path(row['file']).name: row for row in csv.DictReader(table.open())}
    assert rows['short.mp4']['prediction'] == 'class 7' and rows['short.mp4']['error'] == ''
    assert sum(float(rows['short.mp4'][f'score class {k}']) for k in range(101)) == pytest.approx(
        1, abs=1e-3
    )
    assert all(rows[name]['error'] for name in BROKEN)
    written = tmp_path / 'out.json'
    call(config, checkpoint, short, '--out', written, *options)
    (entry,) = json.loads(written.read_text())
    assert entry['file'] == str(short) and entry['predictions'][0]['label'] == 7
    umlaut = shutil.copy(short, tmp_path / 'über Tisch.mp4')
    call(config, checkpoint, umlaut, '--out', written, *options)
    assert 'über Tisch.mp4' in written.read_text(encoding='utf-8')

    code, text = call(config, checkpoint, videos, '--features', tmp_path / 'out', *options)
    assert code == '3 of 5 videos failed'
    assert all(name in text.err for name in BROKEN)
    saved = sorted(str(p.relative_to(tmp_path / 'out')) for p in (tmp_path / 'out').rglob('*.npz'))
    assert saved == ['long.mp4.npz', 'sub/short.mp4.npz']
    assert np.load(tmp_path / 'out' / saved[1])['feature'].shape == (16,)

    code, _ = call(config, checkpoint, tmp_path / 'gone')
    assert 'no such file or folder' in code
