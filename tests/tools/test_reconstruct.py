"""reconstruct.py on checkpoints with and without decoders."""

import runpy
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

import bimm_mm  # noqa: F401

REPO = Path(__file__).parents[2]
TOOL = REPO / 'tools/visualization/reconstruct.py'
CONFIGS = REPO / 'configs/bimm/demo'


@pytest.fixture(scope='module')
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp('checkpoints')
    for name in ('ventral_shapes', 'joint_shapes'):
        model = MODELS.build(Config.fromfile(CONFIGS / f'{name}.py').model)
        torch.save(dict(state_dict=model.state_dict()), folder / f'{name}.pth')
    encoder = {k: v for k, v in model.state_dict().items() if '.backbone.' in k}
    torch.save(dict(state_dict=encoder), folder / 'encoder.pth')
    writer = cv2.VideoWriter(
        str(folder / 'noise.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 10, (64, 48)
    )
    for frame in np.random.default_rng(0).integers(0, 255, (9, 48, 64, 3), np.uint8):
        writer.write(frame)
    writer.release()
    cv2.imwrite(str(folder / 'picture.png'), frame)
    return folder


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    def call(config, checkpoint, *arguments):
        words = [str(CONFIGS / config), str(checkpoint), '--out-dir', str(tmp_path), *arguments]
        monkeypatch.setattr('sys.argv', [str(TOOL), *map(str, words)])
        runpy.run_path(str(TOOL), run_name='__main__')
        printed = capsys.readouterr().out.split()
        return sorted(Path(word).name for word in printed if word.startswith(str(tmp_path)))

    return call


def test_a_video_gives_a_picture_and_an_animation(run, checkpoints):
    made = run('joint_shapes.py', checkpoints / 'joint_shapes.pth', checkpoints / 'noise.avi')
    assert made == ['noise.gif', 'noise.png']


def test_files_of_one_name_in_two_folders_give_two_pictures(run, checkpoints, tmp_path):
    for name in ('a', 'b'):
        (tmp_path / name).mkdir()
        shutil.copy(checkpoints / 'noise.avi', tmp_path / name)
    made = run('joint_shapes.py', checkpoints / 'joint_shapes.pth', tmp_path, '--no-gif')
    assert made == ['noise.png', 'noise_2.png']


def test_images_and_videos_go_to_a_ventral_branch(run, checkpoints):
    files = checkpoints / 'picture.png', checkpoints / 'noise.avi'
    made = run('ventral_shapes.py', checkpoints / 'ventral_shapes.pth', *files)
    assert made == ['noise.png', 'picture.png']


def test_without_files_the_training_data_are_shown(run, checkpoints):
    less = ('--cfg-options', 'train_dataloader.dataset.length=3', '--samples', 2, '--no-gif')
    made = run('joint_shapes.py', checkpoints / 'joint_shapes.pth', *less)
    assert made == ['sample_0.png', 'sample_1.png']


@pytest.mark.parametrize(
    ('checkpoint', 'file', 'message'),
    [
        ('encoder.pth', 'noise.avi', 'no decoders of the ventral and the dorsal branch'),
        ('ventral_shapes.pth', 'noise.avi', 'no decoders of the dorsal branch'),
        ('nothing.pth', 'noise.avi', 'no checkpoint .*nothing.pth'),
        ('joint_shapes.pth', 'nothing.mp4', 'no such file: .*nothing.mp4'),
        ('noise.avi', 'noise.avi', 'noise.avi is not a checkpoint'),
    ],
)
def test_what_cannot_be_shown_is_refused_with_the_reason(
    run, checkpoints, checkpoint, file, message
):
    with pytest.raises(SystemExit, match=message):
        run('joint_shapes.py', checkpoints / checkpoint, checkpoints / file)
