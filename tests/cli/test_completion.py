"""The shell completes commands, options and names of recipes."""

import subprocess
import sys

import pytest

from bimm_mm.cli import main


@pytest.fixture(scope='module')
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp('completion') / 'bimm.sh'
    argv, sys.argv = sys.argv, ['bimm', '--completion', 'bash']
    with path.open('w') as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'stdout', file)
        main.main()
    sys.argv = argv
    return path


@pytest.mark.parametrize(
    'words, found, others',
    [
        (['bimm', 'pre'], ['preflight'], ['train']),
        (['bimm', 'train', '--cfg'], ['--cfg-options'], ['--resume']),
        (
            ['bimm', 'train', 'joint_k400_vitb'],
            ['joint_k400_vitb', 'joint_k400_vitb_edge'],
            ['README'],
        ),
        (['bimm', 'dist-train', '--re'], ['--resume'], ['--cfg-options']),
        (['bimm', 'resize', 'joint_k400_vitb'], [], ['joint_k400_vitb']),
        (['bimm', 'inference', 'note'], ['notes.py'], ['config']),
    ],
)
def test_words_are_completed(script, tmp_path, words, found, others):
    (tmp_path / 'notes.py').touch()
    quoted = ' '.join(words)
    code = f'. {script}; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _bimm; '
    code += 'printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(
        ['bash', '-c', code], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert done.stderr == ''
    answers = done.stdout.split()
    assert set(found) <= set(answers) and not set(others) & set(answers)


def test_another_shell_is_told_which_there_are(monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['bimm', '--completion', 'fish'])
    with pytest.raises(SystemExit, match='bimm --completion fish: must be one of bash, zsh'):
        main.main()
