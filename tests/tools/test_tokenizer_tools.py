import json
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

REPO = Path(__file__).parents[2]
CLIPS = REPO.parent / 'shared' / 'data' / 'clips'
PUBLISHED = runpy.run_path(str(REPO / 'tests' / 'published_tokenizers.py'))


def run(monkeypatch, tool, *arguments):
    """Run a tool in this process."""
    path = REPO / 'tools' / tool
    monkeypatch.setattr(sys, 'argv', [path.name, *map(str, arguments)])
    runpy.run_path(str(path), run_name='__main__')


def save_codebook(path):
    centers = torch.rand(20, 192, generator=torch.Generator().manual_seed(0))
    torch.save(dict(state_dict=dict(centers=centers)), path)


def test_a_tokenizer_is_converted_and_its_config_printed(tmp_path, monkeypatch, capsys):
    PUBLISHED['save_vqgan'](tmp_path / 'last.ckpt', gumbel=True)
    tool = 'model_converters/convert_tokenizer.py'
    run(monkeypatch, tool, tmp_path / 'last.ckpt', tmp_path / 'out.pth')
    printed = capsys.readouterr().out
    config = eval(printed[printed.index('tokenizer=') :].removeprefix('tokenizer='))
    assert config['type'] == 'VqganTokenizer' and len(config['sha256']) == 64
    with pytest.raises(SystemExit, match='no file .*missing.ckpt'):
        run(monkeypatch, tool, tmp_path / 'missing.ckpt', tmp_path / 'out.pth')


def test_a_codebook_is_made_of_a_config_s_training_data(tmp_path, monkeypatch, capsys):
    pytest.importorskip('sklearn')
    arguments = ['--patch-size', 8, '--num-codes', 16, '--samples', 20, '--per-sample', 32]
    config = REPO / 'configs/vimpac/demo/vimpac_shapes.py'
    out = tmp_path / 'new/codebook.pth'  # the folder is made
    run(monkeypatch, 'dataset_converters/make_codebook.py', config, out, *arguments)
    assert '16 codes of 8x8 pixels, made of 640 patches' in capsys.readouterr().out
    centers = torch.load(out)['state_dict']['centers']
    assert centers.shape == (16, 192) and centers.std(0).min() > 0


def test_codes_of_videos_are_made_once(tmp_path, monkeypatch, capsys):
    pytest.importorskip('av')
    if not CLIPS.is_dir():
        pytest.skip(f'no videos in {CLIPS}')
    videos = tmp_path / 'videos'
    videos.mkdir()
    (videos / 'pool.mp4').symlink_to(CLIPS / 'pool_32frames.mp4')
    (videos / 'broken.mp4').write_bytes(b'no video')
    save_codebook(tmp_path / 'codebook.pth')
    arguments = [videos, tmp_path / 'codes', '--tokenizer', 'PatchTokenizer', '--checkpoint']
    arguments += [tmp_path / 'codebook.pth', '--size', 64, '--fps', 5]
    for _ in range(2):
        run(monkeypatch, 'dataset_converters/extract_codes.py', *arguments)
        assert '1 videos could not be read' in capsys.readouterr().out
    codes = np.load(tmp_path / 'codes' / 'pool.mp4.npy')
    assert codes.shape[0] == 1 and codes.shape[2:] == (8, 8) and 4 <= codes.shape[1] <= 8
    assert codes.max() < 20
    assert (tmp_path / 'codes' / 'broken.txt').read_text() == 'broken.mp4\n'
    manifest = json.loads((tmp_path / 'codes' / 'codes.json').read_text())
    assert manifest['fps'] == 5 and manifest['tokenizer']['factor'] == 8
    with pytest.raises(SystemExit, match='was made otherwise: fps was 5'):
        run(monkeypatch, 'dataset_converters/extract_codes.py', *arguments[:-1], 2)


def test_codes_of_whole_images_are_made(tmp_path, monkeypatch, capsys):
    """And of flipped ones; codes of 8 x 8 pixels stand for patches of 16 x 16."""
    images = tmp_path / 'images'
    images.mkdir()
    rng = np.random.default_rng(0)
    for name, size in (('wide', (64, 90)), ('high', (140, 128))):
        cv2.imwrite(str(images / f'{name}.png'), rng.integers(0, 256, (*size, 3), np.uint8))
    (images / 'broken.jpg').write_bytes(b'no image')
    save_codebook(tmp_path / 'codebook.pth')
    arguments = [images, tmp_path / 'codes', '--kind', 'images', '--tokenizer', 'PatchTokenizer']
    arguments += ['--checkpoint', tmp_path / 'codebook.pth', '--size', 64, '--whole', '--flipped']
    arguments += ['--pixels-per-code', 16]
    run(monkeypatch, 'dataset_converters/extract_codes.py', *arguments)
    assert '1 images could not be read' in capsys.readouterr().out
    shapes = {name: np.load(tmp_path / f'codes/{name}.png.npy').shape for name in ('wide', 'high')}
    assert shapes == dict(wide=(2, 1, 4, 5), high=(2, 1, 4, 4))
    with pytest.raises(SystemExit):
        run(monkeypatch, 'dataset_converters/extract_codes.py', *arguments, '--finetuning')
    assert '--whole and --finetuning exclude each other' in capsys.readouterr().err
    with pytest.raises(SystemExit, match='pixels_per_code=12 must divide 64'):
        run(monkeypatch, 'dataset_converters/extract_codes.py', *arguments[:-1], 12)
