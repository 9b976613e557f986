"""The wheel, installed away from the repository, holds recipes and tools and trains."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from bimm_mm.cli.main import COMMANDS, tools_folder
from bimm_mm.config.check import ConfigError
from bimm_mm.config.loading import find_config

REPO = Path(__file__).parents[1]


@pytest.fixture(scope='module')
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('wheel')
    pip = [sys.executable, '-m', 'pip', '--disable-pip-version-check', '-q']
    if subprocess.run([*pip, '--version'], capture_output=True).returncode:
        pytest.skip('there is no pip')
    options = ['--no-deps', '--no-build-isolation']
    source = folder / 'source'  # setuptools writes into the folder that it builds
    subprocess.run(['git', 'clone', '-q', REPO, source], check=True)
    for command in (['wheel', *options, '-w', folder, source],):
        subprocess.run([*pip, *command], check=True, timeout=300)
    (wheel,) = folder.glob('*.whl')
    subprocess.run([*pip, 'install', '--no-deps', '--target', folder / 'site', wheel], check=True)
    return folder / 'site'


def bimm(site, folder, *arguments):
    path = os.pathsep.join([str(site), *(p for p in sys.path if 'packages' in p)])
    env = os.environ | dict(PYTHONPATH=path, OMP_NUM_THREADS='1')
    return subprocess.run(
        [sys.executable, '-m', 'bimm_mm', *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=folder,
        env=env,
        timeout=300,
    )


def test_it_trains_by_the_bare_name_of_a_recipe_in_an_empty_folder(site, tmp_path):
    done = bimm(site, tmp_path, 'train', 'ventral_shapes', '--cfg-options', 'train_cfg.max_iters=2')
    refused = done.stderr
    assert 'param_scheduler' in refused  # the warm-up is longer than that
    done = bimm(
        site,
        tmp_path,
        *('train', 'ventral_shapes', '--work-dir', tmp_path / 'run', '--cfg-options'),
        *('train_cfg.max_iters=2', 'param_scheduler=None'),
        *('default_hooks.checkpoint.interval=2', 'train_dataloader.batch_size=4'),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'state_dict' in torch.load(tmp_path / 'run' / 'iter_2.pth', weights_only=False)


def test_mmengine_finds_its_recipes(site, tmp_path):
    code = """
import bimm_mm
from mmengine.hub import get_config
cfg = get_config('bimm_mm::bimm/demo/ventral_shapes.py')
print(bimm_mm.__file__, cfg.model.type)
"""
    path = os.pathsep.join([str(site), *(p for p in sys.path if 'packages' in p)])
    done = subprocess.run(
        [sys.executable, '-c', code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | dict(PYTHONPATH=path),
    )
    assert done.stdout.split() == [str(site / 'bimm_mm/__init__.py'), 'SingleBranchPretrainer'], (
        done.stdout + done.stderr
    )


def test_every_command_has_its_tool():
    assert all((tools_folder() / tool).is_file() for tool, _ in COMMANDS.values())


def test_a_typo_in_a_command_lists_the_commands(site, tmp_path):
    done = bimm(site, tmp_path, 'trian')
    assert done.returncode == 1
    assert "no command 'trian'" in done.stderr and '  train ' in done.stderr


def test_recipes_are_found_by_their_bare_names():
    expected = REPO / 'configs/bimm/joint_k400_vitb_edge.py'
    for name in ('joint_k400_vitb_edge', 'joint_k400_vitb_edge.py', expected):
        assert find_config(name) == expected
    assert Config.fromfile(find_config('configs/bimm/joint_k400_vitb_edge.py'))
    with pytest.raises(ConfigError, match='did you mean joint_k400_vitb_edge or'):
        find_config('joint_k40_vitb_edge')
