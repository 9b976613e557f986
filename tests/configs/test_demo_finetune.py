"""The demo's finetuning, with a few steps and an encoder that learned nothing."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS
from mmengine.runner import Runner

from bimm_mm.config.check import ConfigError, check_config
from bimm_mm.config.loading import merge_config

pytest.importorskip('mmaction', reason='the recognizer is mmaction2s')

DEMO = Path(__file__).parents[2] / 'configs' / 'bimm' / 'demo'


@pytest.fixture
def checkpoint(tmp_path):
    cfg = Config.fromfile(DEMO / 'joint_shapes.py')
    torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict()), tmp_path / 'last.pth')
    return tmp_path / 'last.pth'


def load(**variables):
    return merge_config(str(DEMO / 'finetune_shapes.py'), variables)


def test_starts_from_the_dorsal_encoder_and_is_tested_on_other_clips(checkpoint, tmp_path):
    cfg = load(start=str(checkpoint), clips=32, iters=2)
    cfg.merge_from_dict(
        {
            'work_dir': str(tmp_path),
            'optim_wrapper.optimizer.lr': 0.0,
            'val_dataloader.dataset.length': 48,
            'param_scheduler': None,
        }
    )
    runner = Runner.from_cfg(cfg)
    model = runner.train()
    state = torch.load(checkpoint)['state_dict']
    for key, value in model.backbone.state_dict().items():
        assert value.equal(state[f'dorsal.backbone.{key}']), key
    assert 0 <= runner.message_hub.get_scalar('val/acc/top1').current() <= 1
    assert cfg.train_dataloader.dataset.seed != cfg.val_dataloader.dataset.seed


@pytest.mark.parametrize('label, classes', [('motion', 16), ('shape', 6), ('texture', 4)])
def test_the_label_is_set_in_one_place(label, classes):
    cfg = load(label=label, start=None)
    assert cfg.model.backbone.init_cfg is None and cfg.model.cls_head.num_classes == classes
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    labels = {int(dataset[index]['data_samples'].gt_label) for index in range(192)}
    assert labels == set(range(classes))
    assert dataset[0]['inputs'].shape == (1, 3, 8, 32, 32)


def test_mistakes_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r'last\.pth'):
        check_config(load())
    with pytest.raises(ConfigError, match='param_scheduler.0.end=2 param_scheduler.1.begin=2'):
        check_config(load(start=None, iters=20))
    cfg = load(start=None)
    with pytest.raises(ValueError, match="label='color' must be one of motion, shape, texture"):
        DATASETS.build(dict(cfg.train_dataloader.dataset, label='color'))
