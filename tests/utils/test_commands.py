"""What messages tell to type can be typed where the command was given."""

import sys
from pathlib import Path

import pytest

from bimm_mm.captions.file import CaptionFile
from bimm_mm.codes.cache import CodeCache
from bimm_mm.config.paths import without_stage_1
from bimm_mm.utils.commands import command

REPO = Path(__file__).parents[2]


@pytest.mark.parametrize(
    'called, tool, expected',
    [
        ('tools/train.py', 'analysis_tools/plot_logs.py', 'python tools/analysis_tools/'),
        ('tools/misc/preflight.py', 'dist_train.sh', 'tools/dist_train.sh'),
        ('/usr/bin/bimm', 'analysis_tools/plot_logs.py', 'bimm curves'),
        ('bimm train', 'analysis_tools/plot_logs.py', 'bimm curves'),
        ('my_own.py', 'analysis_tools/plot_logs.py', 'bimm curves'),
        ('/other/tools/train.py', 'analysis_tools/plot_logs.py', 'bimm curves'),
    ],
)
def test_a_tool_is_called_as_the_one_that_runs(monkeypatch, called, tool, expected):
    monkeypatch.chdir(REPO)
    monkeypatch.setattr(sys, 'argv', [called])
    assert command('curves', tool).startswith(expected)


def test_the_copy_in_an_installed_package_is_called_as_bimm(monkeypatch, tmp_path):
    tool = tmp_path / 'bimm_mm/.mim/tools/analysis_tools/plot_logs.py'
    tool.parent.mkdir(parents=True)
    tool.touch()
    monkeypatch.setattr(sys, 'argv', [str(tool.parents[1] / 'train.py')])  # of dist_train.sh
    assert command('curves', 'analysis_tools/plot_logs.py') == 'bimm curves'


def test_messages_to_those_who_have_the_wheel_alone_name_no_folder_of_tools(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, 'argv', ['bimm train'])
    monkeypatch.chdir(tmp_path)
    texts = [without_stage_1('work_dirs/ventral_in1k_vitb_edge/epoch_800.pth')]
    for kind in (CodeCache, CaptionFile):
        with pytest.raises(FileNotFoundError) as error:
            kind('none')
        texts.append(str(error.value))
    for text, name in zip(texts, ('import', 'extract-codes', 'make-captions'), strict=True):
        assert f'bimm {name}' in text and 'tools/' not in text
    assert 'bimm dist-train ventral_in1k_vitb_edge 8' in texts[0]
    # a checkpoint that no recipe writes
    assert 'bimm dist-train ventral_in1k_vitb 8' in without_stage_1('mine/best.pth')
