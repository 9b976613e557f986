"""Configs out of checkpoints: what mmengine wrote comes back, and nothing of it is run."""

import argparse

import pytest
import torch
from mmengine.config import Config

from bimm_mm.cli.arguments import take_config_from_checkpoint
from bimm_mm.config.check import ConfigError
from bimm_mm.config.from_checkpoint import config_of_checkpoint, parse_config
from bimm_mm.config.loading import merge_config, read_config


def save(path, text):
    torch.save(dict(state_dict={}, meta=dict(cfg=text)), path)
    return str(path)


def test_a_recipe_comes_back_as_it_was_written(request, tmp_path):
    cfg = Config.fromfile(request.config.rootpath / 'configs/bimm/demo/joint_shapes.py')
    found = config_of_checkpoint(save(tmp_path / 'a.pth', cfg.pretty_text))
    assert found.to_dict() == Config.fromstring(cfg.pretty_text, '.py').to_dict()
    assert found.model.ventral.backbone.type == 'BimmViT'


def test_plain_values_of_all_kinds():
    text = "a = [1, -2.5, None, True, (1,), {'x-y': 'text', 3: inf}]\nb = dict(c=dict(d=()))"
    expected = dict(
        a=[1, -2.5, None, True, (1,), {'x-y': 'text', 3: float('inf')}], b={'c': {'d': ()}}
    )
    assert parse_config(text) == expected


@pytest.mark.parametrize(
    'text, reason',
    [
        ("a = __import__('os').system('true')", 'not a plain value'),
        ('import os', 'not of the form name = value'),
        ('a = [x for x in (1, 2)]', 'not a plain value'),
        ("model = dict(type='os.system', command='true')", "type='os.system'"),
        ("model = dict(type='mmengine.utils.call_command')", 'mmengine.utils.call_command'),
        ("custom_imports = dict(imports=['my_parts'])", "the import 'my_parts'"),
        ('a = = 1', 'give the config as well'),
    ],
)
def test_what_could_run_code_is_refused(tmp_path, text, reason):
    with pytest.raises(ConfigError, match=reason):
        config_of_checkpoint(save(tmp_path / 'a.pth', text))


def test_a_checkpoint_without_a_config_asks_for_one(tmp_path):
    torch.save(dict(state_dict={}), tmp_path / 'a.pth')
    with pytest.raises(ConfigError, match='give the config as well'):
        config_of_checkpoint(tmp_path / 'a.pth')


def test_overrides_reach_the_config_of_a_checkpoint(tmp_path):
    path = save(tmp_path / 'a.pth', "model = dict(type='A', width=1)\nwork_dir = 'w'\nsize = 3")
    assert merge_config(None, {'model.width': 2}, path).model.width == 2
    assert read_config(None, {}, 'none', None, path).work_dir == 'w'
    with pytest.raises(ConfigError, match='size: nobody reads this setting'):
        merge_config(None, {'size': 4}, path)


@pytest.mark.parametrize(
    'words, meant',
    [
        (('c.py', 'a.pth', ['v.mp4']), ('c.py', 'a.pth', ['v.mp4'])),
        (('a.pth', 'v.mp4', ['w.mp4']), (None, 'a.pth', ['v.mp4', 'w.mp4'])),
        (('a.pth', None, []), (None, 'a.pth', [])),
    ],
)
def test_the_config_may_be_left_out(words, meant):
    args = argparse.Namespace(**dict(zip(('config', 'checkpoint', 'files'), words, strict=True)))
    take_config_from_checkpoint(args, 'files')
    assert (args.config, args.checkpoint, args.files) == meant


def test_what_a_tool_needs_and_the_config_lacks_is_named(tmp_path):
    config = tmp_path / 'empty.py'
    config.write_text("default_scope = 'mmengine'\nmodel = dict(type='BimmViT')\n")
    with pytest.raises(ConfigError, match='empty.py has no train_dataloader'):
        merge_config(str(config), {}, needs=('model', 'train_dataloader'))
