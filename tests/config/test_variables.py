"""Variables of a recipe hold wherever the recipe reads them."""

from pathlib import Path

import pytest
from mmengine import Config

from bimm_mm.config.check import RUNNER_KEYS, ConfigError
from bimm_mm.config.loading import merge_config
from bimm_mm.config.variables import overshadowed, variables_of

CONFIGS = Path(__file__).parents[2] / 'configs'
BASE = """
size, other = 4, 5
sides = (size, size)
sampler = dict(frames=16, stride=size)
unread = 1
model = dict(size=size, sides=sides, samplers=[sampler, dict(sampler, frames=8)])
probe = dict(length=3)
"""
CHILD = """
_base_ = ['./base.py']
classes = 3
model = dict(head=dict(classes=classes, size=_base_.size), names=[str(i) for i in range(classes)])
"""


@pytest.fixture
def recipe(tmp_path) -> str:
    (tmp_path / 'base.py').write_text(BASE)
    (tmp_path / 'child.py').write_text(CHILD)
    return str(tmp_path / 'child.py')


def test_a_variable_holds_in_the_file_that_sets_it_and_in_those_that_inherit_it(recipe):
    cfg = merge_config(recipe, {'size': 6, 'classes': 2})
    assert cfg.model.sides == (6, 6) and cfg.model.samplers[1] == dict(frames=8, stride=6)
    assert cfg.model.head == dict(classes=2, size=6)
    assert cfg.model.names == ['0', '1']
    assert (cfg.size, cfg.other, cfg.classes, cfg.filename) == (6, 5, 2, recipe)


def test_a_value_that_the_recipe_cannot_use_is_told_with_the_statement(recipe):
    with pytest.raises(ConfigError) as error:
        merge_config(recipe, {'classes': 'three'})
    said = f"--cfg-options classes=three: {recipe}: TypeError: 'str' object"
    assert str(error.value).startswith(said)
    assert str(error.value).endswith('for i in range(classes)])')
    with pytest.raises(ConfigError, match=r'tiny=192, small=384, .*\)\[arch\]$'):
        merge_config(str(CONFIGS / 'bimm/finetune_own_vitb.py'), {'arch': 'smal'})


@pytest.mark.parametrize(
    'name, line, said',
    [
        (
            'child.py',
            'sizes = clases',
            "NameError: name 'clases' is not defined, in: sizes = clases",
        ),
        ('base.py', 'size = 1 / 0', 'ZeroDivisionError: division by zero, in: size = 1 / 0'),
        ('child.py', 'sizes = (1, 2', 'SyntaxError'),
        ('child.py', 'model = dict(sides=dict(a=1))', 'TypeError: '),
    ],
)
def test_a_file_that_cannot_be_evaluated_is_told_with_the_place(recipe, name, line, said):
    file = Path(recipe).with_name(name)
    file.write_text(file.read_text() + line + '\n')
    with pytest.raises(ConfigError) as error:
        merge_config(recipe, {})
    text = str(error.value)
    assert said in text and name in text
    if ' in: ' in said:
        assert f'{file}, line {len(file.read_text().splitlines())}: ' in text


def test_a_part_of_a_variable(recipe):
    cfg = merge_config(recipe, {'sampler.frames': 32})
    assert [sampler.frames for sampler in cfg.model.samplers] == [32, 8]


def test_other_overrides_come_after_variables(recipe):
    cfg = merge_config(recipe, {'model.size': 5, 'size': 6})
    assert (cfg.model.size, cfg.model.head.size) == (5, 6)


def test_without_overrides_it_is_what_mmengine_reads(recipe):
    assert merge_config(recipe, {})._cfg_dict == Config.fromfile(recipe)._cfg_dict


def test_a_variable_that_nobody_reads_is_refused(recipe):
    with pytest.raises(ConfigError, match='--cfg-options unread: nobody reads this setting'):
        merge_config(recipe, {'unread': 2})
    assert merge_config(recipe, {'probe.length': 5}).probe.length == 5  # a tool may


def test_a_variable_that_only_a_base_reads_is_refused(recipe):
    child = Path(recipe)
    child.write_text(CHILD + 'size = 5\n')
    with pytest.raises(ConfigError, match=r'size = 5 changes nothing, since base.py .*size=\.\.\.'):
        merge_config(recipe, {})


def test_environment_variables_of_mmengine(recipe, monkeypatch):
    Path(recipe).write_text(CHILD + "root = '{{$ROOT:a}}'\nmodel['root'] = root + '/b'\n")
    assert merge_config(recipe, {'size': 6}).model.root == 'a/b'
    monkeypatch.setenv('ROOT', '/there')
    assert merge_config(recipe, {'size': 6}).model.root == '/there/b'
    assert merge_config(recipe, {'root': 'c'}).model.root == 'c/b'


def test_no_recipe_sets_what_only_a_base_reads():
    for path in CONFIGS.rglob('*.py'):
        if 'studies' not in path.parts:
            assert not list(overshadowed(path, RUNNER_KEYS)), path


@pytest.mark.parametrize('name', ['finetune_ucf101_vitb', 'linear_ucf101_vitb'])
def test_the_number_of_classes_is_set_in_one_place(name):
    path = CONFIGS / 'bimm' / f'{name}.py'
    assert variables_of(path)['num_classes']
    pytest.importorskip('mmaction', reason='the recipe imports it')
    cfg = merge_config(str(path), {'num_classes': 5})
    found = []

    def walk(node):
        if isinstance(node, dict):
            found.extend(value for key, value in node.items() if key == 'num_classes')
        for value in node.values() if isinstance(node, dict) else node:
            if isinstance(value, dict | list | tuple):
                walk(value)

    walk(cfg._cfg_dict)
    assert len(found) >= 4 and set(found) == {5}
