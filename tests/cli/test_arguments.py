"""Arguments that several tools take."""

import argparse

import pytest
from mmengine.config import Config, DictAction
from torch.utils.data import DataLoader, Dataset

from bimm_mm.cli.arguments import (
    add_config_options,
    add_hook_options,
    merge_hook_options,
    parse_value,
    without_traceback,
)
from bimm_mm.config.check import ConfigError
from bimm_mm.config.shapes import shape_problems
from bimm_mm.datasets.broken import BrokenSampleError


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_hook_options(parser)
    add_config_options(parser, 'a.b=1')
    return parser.parse_args(words)


@pytest.mark.parametrize(
    'words, said',
    [
        (('key', '=', '3'), "'key' must be KEY=VALUE, without blanks around the ="),
        (('key=', '3'), "'3' must be KEY=VALUE"),
        (('=3',), "'=3' must be KEY=VALUE"),
        (('key=3,',), 'ends with a comma; a list is KEY=[1,2]'),
        (('key=[1,2',), 'mbalanced brackets'),
    ],
)
def test_overrides_that_are_none_are_told_in_a_sentence(words, said, capsys):
    with pytest.raises(SystemExit):
        parse('--cfg-options', *words)
    shown = capsys.readouterr().err
    assert said in shown and 'Traceback' not in shown


def test_overrides_are_mmengines():
    options = parse('--cfg-options', 'a.b=1', 'c=[1,x]', 'd=', 'e="(1,2)"').cfg_options
    assert options == {'a.b': 1, 'c': [1, 'x'], 'd': '', 'e': (1, 2)}


def test_blanks_and_commas_of_paths_are_kept(tmp_path):
    folder = tmp_path / 'my videos, [old] (2)'
    folder.mkdir()
    words = [f'a={folder}', f'b="{folder}"', 'c=new videos', 'd=[cat nap, dog run]', 'e=[1, (2,3)]']
    options = parse('--cfg-options', *words).cfg_options
    assert options['a'] == options['b'] == str(folder)
    assert options['c'] == 'new videos'
    assert options['d'] == ['cat nap', 'dog run'] and options['e'] == [1, (2, 3)]


@pytest.mark.parametrize('text', ['1,2', '[]', '()', '(1,)', '[[1,2],[3]]', '[(a,b),[c,1.5]]', 'x'])
def test_lists_are_read_as_mmengine_does(text):
    assert parse_value(text) == DictAction._parse_iterable(text)


def test_a_dict_is_read_as_python_writes_it():
    assert parse_value("{'embed_dims':192,'sizes':(1,2)}") == dict(embed_dims=192, sizes=(1, 2))
    for text in ('{embed_dims:192}', '{1,2}'):
        with pytest.raises(ValueError, match='is no dict'):
            parse_value(text)


def test_hooks_pictures_and_tensorboard_are_added_to_what_a_recipe_has():
    cfg = Config(dict(custom_hooks=[dict(type='A')], visualizer=dict(type='Visualizer')))
    args = parse('--tensorboard', '--pictures', '5', '--hook', 'EMAHook', 'momentum=0.1')
    merge_hook_options(cfg, args)
    assert cfg.custom_hooks == [
        dict(type='A'),
        dict(type='EMAHook', momentum=0.1),
        dict(type='ReconstructionHook', interval=5),
    ]
    kinds = [backend.type for backend in cfg.visualizer.vis_backends]
    assert kinds == ['LocalVisBackend', 'TensorboardVisBackend']
    merge_hook_options(cfg, parse('--tensorboard'))
    assert len(cfg.visualizer.vis_backends) == 2


@pytest.mark.parametrize('words', [('--pictures', '0'), ('--hook', 'EMAHook', 'momentum')])
def test_hooks_that_cannot_be_meant_are_told(words):
    with pytest.raises(ConfigError, match='must be'):
        merge_hook_options(Config(), parse(*words))


@pytest.mark.parametrize(
    'cfg, said',
    [
        (dict(custom_hooks=[..., dict(type='A')]), 'custom_hooks[0]=Ellipsis: Python\'s "..."'),
        (dict(custom_hooks='EMAHook'), "custom_hooks='EMAHook' must be a list of dicts"),
        (dict(custom_hooks=['EMAHook']), "custom_hooks[0]='EMAHook' must be a dict"),
        (dict(visualizer=dict(vis_backends='Local')), "visualizer.vis_backends='Local' must be a"),
        (
            dict(train_dataloader=dict(batch_size=0)),
            'train_dataloader.batch_size=0 must be a whole',
        ),
        (dict(train_cfg=dict(max_epochs=1.5)), 'train_cfg.max_epochs=1.5 must be a whole number'),
    ],
)
def test_settings_of_another_kind_than_is_needed_are_told(cfg, said):
    (line,) = shape_problems(cfg)
    assert line.startswith(said)


def test_settings_of_the_right_kind_pass():
    cfg = dict(
        custom_hooks=[dict(type='A')],
        visualizer=dict(vis_backends=None),
        train_dataloader=dict(batch_size=1, num_workers=0, dataset=dict(pipeline=[dict(type='B')])),
    )
    assert shape_problems(cfg) == []


class Unreadable(Dataset):
    """One sample, that cannot be made."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> None:
        try:
            raise OSError('moov atom not found')
        except OSError as error:
            raise BrokenSampleError('cut off.mp4: mend the file') from error


@pytest.mark.parametrize('workers', [0, 1])
def test_an_error_of_a_worker_is_told_without_its_traceback(workers):
    with pytest.raises(BrokenSampleError) as error:
        next(iter(DataLoader(Unreadable(), num_workers=workers)))
    assert without_traceback(error.value) == 'cut off.mp4: mend the file'
