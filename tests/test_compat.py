"""Each bridge over a gap in an upstream release, and that it does nothing where there is no gap.

Imports are tried in processes of their own, with packages made up for the purpose, so that the
tests say the same whatever is installed.
"""

import argparse
import functools
import http.server
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import types
from collections.abc import Callable
from pathlib import Path

import mmengine
import numpy as np
import pytest
import torch
from mmengine._strategy.fsdp import FSDPStrategy
from mmengine.logging import HistoryBuffer
from mmengine.optim import OptimWrapper
from mmengine.runner.checkpoint import CheckpointLoader
from torch.distributed import HashStore
from torch.distributed.fsdp import FullyShardedDataParallel as FSDP

from bimm_mm import compat

REPO = Path(__file__).parents[1]


def write(root: Path, files: dict[str, str]) -> Path:
    """Write a package tree; a missing ``__init__.py`` on the way to a file is made, empty."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        for parent in path.relative_to(root).parents[:-1]:
            (root / parent / '__init__.py').touch()
    return root


def python(code: str, *paths: Path, **environment: str) -> subprocess.CompletedProcess:
    """Run ``code`` in a new process that finds packages in ``paths`` before all others."""
    env = os.environ | {'PYTHONPATH': os.pathsep.join(map(str, (*paths, REPO)))} | environment
    return subprocess.run(
        [sys.executable, '-c', textwrap.dedent(code)],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )


def output(code: str, *paths: Path) -> str:
    result = python(code, *paths)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


# mmaction2's missing module ---------------------------------------------------------------------

MMACTION = {
    'mmaction/registry.py': """
        from mmengine import MODELS as ROOT, Registry
        MODELS = Registry('model', parent=ROOT, scope='mmaction')
    """,
    'mmaction/models/localizers/__init__.py': 'from .drn.drn import DRN',
}


def test_localizers_import_without_the_folder_that_mmaction2_left_out(tmp_path):
    root = write(tmp_path, MMACTION)
    without = python('import mmaction.models.localizers', root)
    assert "No module named 'mmaction.models.localizers.drn'" in without.stderr

    message = output(
        """
        from bimm_mm import compat
        compat.provide_mmaction_drn()
        import mmaction.models.localizers
        from mmaction.registry import MODELS
        try:
            MODELS.build(dict(type='DRN', vocab_size=3))
        except ImportError as error:
            print(error)
        """,
        root,
    )
    assert 'DRN is missing' in message and 'issue 2714' in message


def test_a_complete_mmaction2_keeps_its_own_module(tmp_path):
    drn = {'mmaction/models/localizers/drn/drn.py': "DRN = 'its own'"}
    code = """
        from bimm_mm import compat
        compat.provide_mmaction_drn()
        from mmaction.models.localizers import DRN
        print(DRN)
    """
    assert output(code, write(tmp_path, MMACTION | drn)) == 'its own'


def test_other_missing_modules_stay_missing(tmp_path):
    result = python('import bimm_mm, mmaction.models.heads', write(tmp_path, MMACTION))
    assert "No module named 'mmaction.models.heads'" in result.stderr


# Multi-modal models with a transformers that lacks what they import -----------------------------


def packages(root: Path, *, flag: bool, missing: str | None) -> Path:
    """mmpretrain with its multi-modal switch at ``flag``, and transformers without one name."""
    files = {
        'mmpretrain/utils/dependency.py': f'WITH_MULTIMODAL = {flag}',
        'mmpretrain/models/__init__.py': 'from mmpretrain.utils.dependency import WITH_MULTIMODAL',
        'transformers/version.py': '',
    }
    for module, names in compat.MULTIMODAL_IMPORTS['mmpretrain'].items():
        path = module.replace('.', '/') + '/__init__.py'
        files[path] = ''.join(f'{n} = object()\n' for n in names.split() if n != missing)
    write(root, files)
    init = root / 'transformers' / '__init__.py'
    init.write_text(init.read_text() + "__version__ = '4.99'\n")
    return root


IMPORT = """
    import warnings
    from bimm_mm import compat
    compat.disable_broken_multimodal()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        import mmpretrain.models
    print(mmpretrain.models.WITH_MULTIMODAL, [str(w.message) for w in caught])
"""


def test_multimodal_is_switched_off_where_transformers_lacks_a_name(tmp_path):
    root = packages(tmp_path, flag=True, missing='apply_chunking_to_forward')
    text = output(IMPORT, root)
    assert 'False' in text
    assert "mmpretrain's multi-modal models are disabled" in text
    assert 'transformers.modeling_utils.apply_chunking_to_forward' in text and '4.99' in text


def test_multimodal_is_switched_off_where_mmpretrain_was_half_imported_before(tmp_path):
    root = packages(tmp_path, flag=True, missing='apply_chunking_to_forward')
    code = """
        import mmpretrain.utils.dependency
        from bimm_mm import compat
        compat.disable_broken_multimodal()
        import mmpretrain.models
        print(mmpretrain.models.WITH_MULTIMODAL)
    """
    assert output(code, root).endswith('False')


def test_multimodal_stays_where_transformers_has_every_name(tmp_path):
    root = packages(tmp_path, flag=True, missing=None)
    assert output(IMPORT, root).endswith('True []')


def test_nothing_is_said_where_multimodal_is_off_anyway(tmp_path):
    root = packages(tmp_path, flag=False, missing='apply_chunking_to_forward')
    assert output(IMPORT, root).endswith('False []')


# Names that NumPy 2 removed ----------------------------------------------------------------------

AVA_METRICS = 'mmaction.evaluation.functional.ava_evaluation.metrics'
ASK_FOR_NAN = {
    f'{AVA_METRICS.replace(".", "/")}.py': """
        import numpy as np
        def no_boxes():
            return np.NAN, np.arange(2).sum()
    """
}


@pytest.mark.parametrize('before', [True, False], ids=['imported before', 'imported after'])
def test_a_module_keeps_the_names_that_numpy_has_removed(tmp_path, before):
    root = write(tmp_path, ASK_FOR_NAN)
    code = f"""
        import numpy
        vars(numpy).pop('NAN', None)  # as NumPy 2 has it
        {f'import {AVA_METRICS}' if before else ''}
        from bimm_mm import compat
        compat.provide_removed_numpy_names()
        from {AVA_METRICS} import no_boxes
        print(*no_boxes(), hasattr(numpy, 'NAN'))
    """
    assert output(code, root) == 'nan 1 False'


def test_a_module_whose_names_numpy_has_keeps_numpy(tmp_path):
    code = f"""
        import numpy
        numpy.NAN = 'its own'
        from bimm_mm import compat
        compat.provide_removed_numpy_names()
        import {AVA_METRICS} as metrics
        print(metrics.np is numpy)
    """
    assert output(code, write(tmp_path, ASK_FOR_NAN)) == 'True'


def test_importing_the_toolkit_imports_none_of_the_big_packages():
    code = """
        import sys, bimm_mm
        big = 'mmaction mmpretrain mmdet mmseg decord segment_anything'
        print(sorted(set(big.split()) & set(sys.modules)))
    """
    assert output(code) == '[]'


# Checkpoints under weights_only -----------------------------------------------------------------


def test_checkpoint_with_log_history_loads_only_with_the_bridge(tmp_path):
    checkpoint = tmp_path / 'checkpoint.pth'
    history = HistoryBuffer()
    history.update(0.5)
    history.update(np.float64(0.25))
    torch.save(dict(loss=history, best=np.float32(0.5), epoch=np.int64(4)), checkpoint)
    load = f'import torch; torch.load({str(checkpoint)!r})'
    assert 'HistoryBuffer' in python(load).stderr

    compat.allow_checkpoint_classes()
    state = torch.load(checkpoint)
    assert isinstance(state['loss'], HistoryBuffer)
    np.testing.assert_allclose(state['loss'].data[0], [0.5, 0.25])
    assert state['loss'].statistics('mean') == 0.375
    assert (state['best'], state['epoch']) == (0.5, 4)


def test_code_in_a_checkpoint_is_still_refused(tmp_path):
    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / 'ran'),)

    compat.allow_checkpoint_classes()
    torch.save(Payload(), tmp_path / 'bad.pth')
    with pytest.raises(Exception, match='weights_only|Weights only'):
        torch.load(tmp_path / 'bad.pth')
    assert not (tmp_path / 'ran').exists()


def test_getattr_in_a_checkpoint_reaches_nothing_but_statistics(tmp_path):
    class Payload:
        def __reduce__(self):
            return getattr, (HistoryBuffer, '__init__')

    compat.allow_checkpoint_classes()
    torch.save(Payload(), tmp_path / 'bad.pth')
    with pytest.raises(Exception, match="may not ask for '__init__'"):
        torch.load(tmp_path / 'bad.pth')


class Folder:
    """Makes a folder when it is read."""

    def __reduce__(self):
        return os.mkdir, ('ran',)


@pytest.fixture
def bad(tmp_path, monkeypatch):
    """A checkpoint that would make the folder 'ran'; the working directory."""
    monkeypatch.chdir(tmp_path)
    torch.save(dict(state_dict={}, evil=Folder()), 'bad.pth')
    torch.save(dict(state_dict={}, args=argparse.Namespace(lr=1.0)), 'good.pth')
    return tmp_path


# as torch before 2.6 does by itself
@pytest.mark.parametrize('default', ['', '1'])
def test_mmengine_runs_no_code_whatever_the_default_of_torch(bad, monkeypatch, default):
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', default)
    compat.allow_checkpoint_classes()
    compat.refuse_code_in_checkpoints()
    with pytest.raises(pickle.UnpicklingError, match='bad.pth was not loaded: .*could run code'):
        CheckpointLoader.load_checkpoint('bad.pth')
    assert not (bad / 'ran').exists()
    assert CheckpointLoader.load_checkpoint('good.pth')['args'].lr == 1
    assert os.environ['TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'] == default
    assert 'TORCH_FORCE_WEIGHTS_ONLY_LOAD' not in os.environ
    if default:  # the test tests something
        with pytest.warns(UserWarning, match='forcing weights_only=False'):
            torch.load('bad.pth')
        assert (bad / 'ran').exists()


def test_mmengine_runs_no_code_from_the_network(bad, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(bad / 'cache'))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(bad))
    compat.refuse_code_in_checkpoints()
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f'http://127.0.0.1:{server.server_port}'
        with pytest.raises(pickle.UnpicklingError, match='bad.pth was not loaded'):
            CheckpointLoader.load_checkpoint(f'{url}/bad.pth')
        assert 'state_dict' in CheckpointLoader.load_checkpoint(f'{url}/good.pth')
        server.shutdown()
    assert not (bad / 'ran').exists()


# FSDP ---------------------------------------------------------------------------------------------


def resume_optimizer(load: Callable, steps: int = 2) -> tuple[dict, dict]:
    """The optimizer's state after some steps, and after ``load`` has put it into a new one."""
    torch.distributed.init_process_group('gloo', rank=0, world_size=1, store=HashStore())
    try:
        states = []
        for _ in range(2):
            torch.manual_seed(0)
            model = FSDP(torch.nn.Linear(3, 2), device_id=torch.device('cpu'))
            wrapper = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=0.1))
            strategy = types.SimpleNamespace(model=model, optim_wrapper=wrapper)
            if states:
                load(strategy, states[0])
            else:
                for _ in range(steps):
                    wrapper.update_params(model(torch.ones(1, 3)).sum())
            states.append(FSDP.optim_state_dict(model, wrapper.optimizer))
        return tuple(states)
    finally:
        torch.distributed.destroy_process_group()


def test_an_optimizer_goes_on_under_fsdp():
    before, after = resume_optimizer(FSDPStrategy.load_optim_state_dict)
    assert before['state'] and before['state'].keys() == after['state'].keys()
    for name, state in before['state'].items():
        assert all(
            torch.equal(torch.as_tensor(state[k]), torch.as_tensor(v))
            for k, v in after['state'][name].items()
        )


def test_a_later_mmengine_keeps_its_own_way_under_fsdp(monkeypatch):
    own = object()
    monkeypatch.setattr(FSDPStrategy, 'load_optim_state_dict', own)
    monkeypatch.setattr(mmengine, '__version__', '0.10.8')
    compat.order_fsdp_optimizer_state()
    assert FSDPStrategy.load_optim_state_dict is own
