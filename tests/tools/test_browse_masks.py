"""The picture of browse_masks.py."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bimm_mm.models import RandomMasking
from bimm_mm.visualization.masks import draw_maskings

sys.path.insert(0, str(Path(__file__).parents[1]))
from small_clip import write_clip  # noqa: E402

TOOL = Path(__file__).parents[2] / 'tools/visualization/browse_masks.py'


def run(monkeypatch, *arguments):
    monkeypatch.setattr('sys.argv', [str(TOOL), *map(str, arguments)])
    runpy.run_path(str(TOOL), run_name='__main__')


def test_every_masking_on_a_generated_clip(monkeypatch, tmp_path, capsys):
    run(monkeypatch, '--out', tmp_path / 'masks.png', '--grid', 4, 6, 6)
    assert capsys.readouterr().out.strip() == str(tmp_path / 'masks.png')
    assert Image.open(tmp_path / 'masks.png').height > 900


def test_maskings_from_the_command_line(monkeypatch, tmp_path):
    masking = "dict(type='TubeMasking', ratio=0.5)"
    run(monkeypatch, '--maskings', masking, '--out', tmp_path / 'one.png', '--grid', 2, 4, 4)
    assert Image.open(tmp_path / 'one.png').height < 200
    with pytest.raises(SystemExit, match='must be as dict'):
        run(monkeypatch, '--maskings', 'TubeMasking', '--out', tmp_path / 'two.png')


def test_what_is_masked_is_gray_and_nothing_else_is():
    clip = torch.zeros(3, 4, 16, 16, dtype=torch.uint8)
    figure = draw_maskings(clip, dict(half=RandomMasking(0.5)), (2, 4, 4))
    images = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    gray = np.stack(images)[..., 0] > 0.5
    assert len(images) == 2 and gray.mean() == 0.5
    with pytest.raises(ValueError, match='does not divide the clip'):
        draw_maskings(clip, dict(half=RandomMasking(0.5)), (3, 4, 4))


def test_guided_masks_of_a_generated_clip_and_its_caption(monkeypatch, tmp_path):
    pytest.importorskip('transformers', reason='needs transformers')
    clip = write_clip(tmp_path / 'clip')
    settings = ['--guided', '--clip', clip, '--grid', 2, 4, 4]
    run(monkeypatch, *settings, '--out', tmp_path / 'masks.png')
    assert Image.open(tmp_path / 'masks.png').height > 600  # six rows
    with pytest.raises(SystemExit):
        run(monkeypatch, *settings, '--video', 'a.mp4')


def test_guided_masks_of_a_video(monkeypatch, tmp_path):
    folder = Path(__file__).parents[3] / 'shared/data/clips'
    if not folder.is_dir():
        pytest.skip(f'no real clips in {folder}')
    settings = ['--guided', '--grid', 4, 8, 8, '--interval', 2]
    run(monkeypatch, *settings, '--video', folder / 'pool.mp4', '--out', tmp_path / 'masks.png')
    assert Image.open(tmp_path / 'masks.png').height > 400
