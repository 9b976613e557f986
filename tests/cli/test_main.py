"""The command ``bimm``."""

import sys
from pathlib import Path

import pytest

from bimm_mm.cli import main


def test_several_processes_are_started_with_the_same_python(monkeypatch):
    def run(program, words, env):
        raise SystemExit([program, *words, env['PATH'].split(':')[0], env['VIRTUAL_ENV']])

    monkeypatch.setattr('os.execvpe', run)
    monkeypatch.setattr(sys, 'argv', ['bimm', 'dist-train', 'ventral_shapes', '2', '--amp'])
    with pytest.raises(SystemExit) as called:
        main.main()
    script = str(main.tools_folder() / 'dist_train.sh')
    here = str(Path(sys.executable).parent)
    words = ['bash', 'bash', script, 'ventral_shapes', '2', '--amp', here, sys.prefix]
    assert called.value.code == words
