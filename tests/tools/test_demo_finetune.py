"""The demo of finetuning, with a few steps and an encoder that learned nothing."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def demo(monkeypatch):
    spec = importlib.util.spec_from_file_location('demo_finetune', ROOT / 'tools/demo_finetune.py')
    module = importlib.util.module_from_spec(spec)
    # the test loads the script more than once
    monkeypatch.delitem(MODELS.module_dict, 'ShapesClassifier', raising=False)
    spec.loader.exec_module(module)
    build_config = module.build_config

    def build_short(*args):
        cfg = build_config(*args)
        cfg.held_out.dataset.length = 48
        return cfg

    monkeypatch.setattr(module, 'build_config', build_short)
    monkeypatch.setattr(module, 'WARMUP', 1)
    return module


@pytest.fixture
def checkpoint(tmp_path):
    cfg = Config.fromfile(ROOT / 'configs/bimm/demo/joint_shapes.py')
    torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict()), tmp_path / 'last.pth')
    return tmp_path / 'last.pth'


def run(demo, monkeypatch, *args):
    monkeypatch.setattr(sys, 'argv', ['demo_finetune.py', *map(str, args)])
    demo.main()


def test_prints_both_accuracies(demo, checkpoint, tmp_path, monkeypatch, capsys):
    args = ('--checkpoint', checkpoint, '--work-dir', tmp_path, '--iters', 2, '--clips', 32)
    run(demo, monkeypatch, *args)
    printed = capsys.readouterr().out
    assert re.search(
        r'seed 0: pretrained +[\d.]+% .* from scratch +[\d.]+% .* chance 16.7%', printed
    )
    # an encoder that learned nothing is not better, and the script must say so where it is not
    gain = float(re.search(r'gain: ([+-][\d.]+)%', printed)[1])
    assert ('not always above' in printed) == (gain <= 0)


def test_starts_from_the_dorsal_encoder(demo, checkpoint, tmp_path):
    cfg = demo.build_config('motion', 32, 2, tmp_path)
    cfg.optim_wrapper.optimizer.lr = 0.0
    init = dict(type='Pretrained', checkpoint=str(checkpoint), prefix='dorsal.backbone.')
    model = demo.finetune(cfg, init, seed=0)
    state = torch.load(checkpoint)['state_dict']
    for key, value in model.backbone.state_dict().items():
        assert value.equal(state[f'dorsal.backbone.{key}']), key
    assert demo.evaluate(model, demo.Runner.build_dataloader(cfg.held_out)).count == 48


@pytest.mark.parametrize(
    'args, message',
    [(['--checkpoint', 'nowhere.pth'], 'no checkpoint nowhere.pth'), (['--iters', 1], '--iters 1')],
)
def test_wrong_arguments(args, message, demo, checkpoint, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(demo, monkeypatch, '--checkpoint', checkpoint, *args)
    assert message in capsys.readouterr().err
