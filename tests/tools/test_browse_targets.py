"""The pictures of browse_targets.py, from a config as it is trained."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from bimm_mm.models import DualBranchPretrainer

REPO = Path(__file__).parents[2]
TOOL = REPO / 'tools/visualization/browse_targets.py'


@pytest.fixture(scope='module')
def tool():
    return runpy.run_path(str(TOOL))


def branch(video):
    decoder = dict(type='TransformerDecoder', embed_dims=8, depth=1, num_heads=1)
    return dict(
        backbone=dict(
            type='BimmViT',
            arch=dict(embed_dims=12, depth=2, num_heads=1),
            img_size=16,
            patch_size=8,
            stage_ends=(1, 2),
            **(dict(num_frames=4) if video else {}),
        ),
        masking=dict(type='RandomMasking', ratio=0.5),
        neck=dict(type='MultiStageDecoder', decoders=[decoder, decoder]),
        targets=[
            dict(type='CachedContourTarget'),
            dict(type='MotionTarget' if video else 'PixelTarget'),
        ],
    )


def test_rows_show_input_and_targets_of_both_branches(tool):
    model = DualBranchPretrainer(ventral=branch(False), dorsal=branch(True))
    batch = torch.full((1, 4, 4, 16, 16), 128, dtype=torch.uint8)
    batch[:, 3] = 0
    batch[:, 3, 2, 5, 7] = 255  # one pixel of contour, in frame 2
    batch = model.data_preprocessor(dict(inputs=batch))
    rows = tool['rows_of'](model, batch, 4)
    titles = [caption.splitlines()[0] for caption, _ in rows]
    over = 'contours, in red, over the input'
    assert titles == [
        *('ventral branch: input', 'contours', over, 'pixels'),
        *('dorsal branch: input', 'contours', over, 'motion'),
    ]
    picture, contours, overlay, motion = (images for _, images in rows[4:])
    assert picture == pytest.approx(128 / 255, abs=1e-3) and motion.shape == (4, 16, 16, 3)
    assert np.argwhere(contours[..., 0] > 0.5).tolist() == [[2, 5, 7]]
    assert overlay[2, 5, 7].tolist() == pytest.approx([1, 0, 0])
    different = np.argwhere((overlay != picture).any(axis=-1))
    assert different.tolist() == [[2, 5, 7]]
    figure = tool['draw'](rows, 'title')
    assert len(figure.axes) == 4 * 1 + 4 * 4


def test_a_picture_per_sample_of_a_config(tool, tmp_path, monkeypatch, capsys):
    config = REPO / 'configs/bimm/demo/joint_shapes.py'
    arguments = [str(config), '--out-dir', str(tmp_path), '--samples', '2', '--frames', '2']
    arguments += ['--cfg-options', 'train_dataloader.dataset.length=5']
    monkeypatch.setattr('sys.argv', [str(TOOL), *arguments])
    tool['main']()
    pictures = sorted(tmp_path.glob('*.png'))
    assert len(pictures) == 2 and all(path.stat().st_size > 10_000 for path in pictures)
    assert sorted(capsys.readouterr().out.split()) == [str(path) for path in pictures]
