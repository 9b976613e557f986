"""The picture of browse_dataset.py."""

import runpy
from pathlib import Path

import pytest
from PIL import Image

REPO = Path(__file__).parents[2]
TOOL = REPO / 'tools/visualization/browse_dataset.py'


@pytest.fixture
def run(monkeypatch):
    def call(*arguments):
        monkeypatch.setattr('sys.argv', [str(TOOL), *map(str, arguments)])
        return runpy.run_path(str(TOOL), run_name='__main__')

    return call


def test_clips_with_captions_and_images_with_labels(run, tmp_path, capsys):
    run('joint_hard_shapes', '--out', tmp_path / 'clips.png', '--samples', 3, '--cfg-options',
        'train_dataloader.dataset.captions=True')  # fmt: skip
    assert capsys.readouterr().out.strip() == str(tmp_path / 'clips.png')
    clips = Image.open(tmp_path / 'clips.png')
    run('ventral_shapes', '--out', tmp_path / 'images.png', '--samples', 3, '--columns', 1)
    images = Image.open(tmp_path / 'images.png')
    assert clips.width > images.width and clips.height < images.height


def test_a_line_of_text_says_what_is_there(run, tmp_path):
    tool = run('joint_shapes', '--out', tmp_path / 'clips.png', '--samples', 1)
    from mmengine.structures import BaseDataElement

    names = dict(shape_classes=('disc', 'star'))
    assert tool['describe'](BaseDataElement(shape=1, sample_idx=3), names) == 'shape: star'
    sample = BaseDataElement(metainfo=dict(caption='a star'), shape=1)
    assert tool['describe'](sample, names) == 'a star'


def test_a_loader_that_is_not_there_is_named(run, tmp_path):
    with pytest.raises(SystemExit, match='--loader test_dataloader: .* no such data loader'):
        run('joint_shapes', '--loader', 'test_dataloader', '--out', tmp_path / 'x.png')
