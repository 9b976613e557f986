"""The demo from end to end, with a few steps instead of thousands."""

import json
import sys
from pathlib import Path

import cv2
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def demo(load_script, monkeypatch):
    module = load_script('tools/demo.py')
    load = module.load

    def load_short(name, folder, seed):
        cfg = load(name, folder, seed)
        cfg.train_cfg.max_iters = 3
        cfg.param_scheduler = None  # whose warm-up is longer
        for split in ('probe_train', 'probe_test'):
            if split in cfg:
                cfg[split].dataset.length = 384
        return cfg

    monkeypatch.setattr(module, 'load', load_short)
    return module


def test_the_picture_is_renewed_while_it_trains(demo, tmp_path):
    picture = tmp_path / 'reconstruction.png'
    demo.train(demo.load('ventral_shapes', tmp_path, 0), 'stage 1', picture)
    height, width = cv2.imread(str(picture)).shape[:2]
    assert min(height, width) > 100
    assert [path.name for path in tmp_path.glob('*.png*')] == ['reconstruction.png']


def test_demo_trains_both_stages_probes_and_draws(demo, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['demo.py', '--work-dir', str(tmp_path)])
    demo.main()
    figures = json.loads((tmp_path / 'figures.json').read_text())
    assert set(figures['accuracy']) == {'motion', 'shape', 'texture'}
    printed = capsys.readouterr().out
    assert (tmp_path / 'ventral_shapes' / 'last.pth').exists()
    assert (tmp_path / 'joint_shapes' / 'last.pth').exists()
    assert (tmp_path / 'reconstruction.png').stat().st_size > 10_000
    for stage in ('ventral_gabor', 'ventral_contour', 'ventral_pixel'):
        assert f'  {stage} ' in printed
    for stage in ('dorsal_gabor', 'dorsal_contour', 'dorsal_motion'):
        assert f'  {stage} ' in printed
    # three steps teach nothing, and the demo must say so
    assert 'not clearly positive' in printed
    assert all(f'  {label} ' in printed for label in ('motion', 'shape', 'texture'))
