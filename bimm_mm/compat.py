"""Bridges over gaps in OpenMMLab's releases, one function each.

Each names the release it is for and does nothing where the gap is closed. :func:`apply` is called
when ``bimm_mm`` is imported; it imports no OpenMMLab package but mmengine.
"""

import argparse
import functools
import importlib.abc
import importlib.machinery
import inspect
import io
import os
import pickle
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module

import mmengine
import numpy as np
import torch
from mmengine._strategy.fsdp import FSDPStrategy
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader
from mmengine.runner.loops import _InfiniteDataloaderIterator
from mmengine.utils import digit_version
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.utils.data import DataLoader

DRN_PACKAGE = 'mmaction.models.localizers.drn'

# What the multi-modal parts of the two packages import when they are imported, except outputs and
# configs, which every transformers has.
MULTIMODAL_IMPORTS = {
    'mmpretrain': {
        'transformers': 'AutoConfig AutoModelForCausalLM AutoTokenizer BartTokenizer '
        'BasicTokenizer BertTokenizer BertTokenizerFast LlamaTokenizer PreTrainedModel '
        'WordpieceTokenizer',
        'transformers.modeling_utils': 'GenerationConfig GenerationMixin PretrainedConfig '
        'apply_chunking_to_forward find_pruneable_heads_and_indices prune_linear_layer',
        'transformers.models.auto.auto_factory': '_BaseAutoModelClass',
        'transformers.utils': 'add_code_sample_docstrings add_start_docstrings '
        'add_start_docstrings_to_model_forward logging replace_return_docstrings',
    },
    'mmaction': {
        'timm.models.layers': 'DropPath',
        'transformers': 'BertTokenizer',
        'transformers.file_utils': 'ModelOutput add_start_docstrings '
        'add_start_docstrings_to_model_forward replace_return_docstrings',
        'transformers.modeling_utils': 'PreTrainedModel apply_chunking_to_forward '
        'find_pruneable_heads_and_indices prune_linear_layer',
        'transformers.models.beit.modeling_beit': 'BeitAttention BeitDropPath BeitEmbeddings '
        'BeitLayer BeitModel BeitRelativePositionBias',
    },
}

# What OpenMMLab's modules ask of NumPy, and NumPy 1.24 (float), 2.0 (Inf, NAN) and 2.4 removed.
NUMPY_IMPORTS = {
    'mmaction.datasets.transforms.pose_transforms': 'Inf',
    'mmaction.evaluation.functional.accuracy': 'trapz',
    'mmaction.evaluation.functional.ava_evaluation.metrics': 'NAN',
    'mmaction.evaluation.metrics.multimodal_metric': 'in1d',
    'mmaction.utils.misc': 'Inf',
    'mmcv.ops.pixel_group': 'float',
    'mmdet.evaluation.functional.ytviseval': 'float',
    'mmpretrain.evaluation.metrics.retrieval': 'in1d',
}
# the same under the names of today
NUMPY_NAMES = {'Inf': 'inf', 'NAN': 'nan', 'in1d': 'isin', 'trapz': 'trapezoid', 'float': 'float64'}


def apply() -> None:
    """Apply the bridges that concern imports and checkpoints; a second call changes nothing."""
    provide_mmaction_drn()
    disable_broken_multimodal()
    provide_removed_numpy_names()
    allow_checkpoint_classes()
    refuse_code_in_checkpoints()
    order_fsdp_optimizer_state()
    start_workers_with_the_first_batch()
    let_configs_be_found()


# mmengine 0.10.7: configs of other packages ------------------------------------------------------


def let_configs_be_found() -> None:
    """Let ``_base_ = 'bimm_mm::bimm/joint_k400_vitb.py'`` work: mmengine has a list of packages."""
    MODULE2PACKAGE.setdefault('bimm_mm', 'bimm_mm')


# mmaction2 1.2.0 ----------------------------------------------------------------------------------


class _MissingDRN(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Stands last in ``sys.meta_path``: it is asked for DRN only where mmaction2 has none."""

    def find_spec(self, name, path=None, target=None):
        if name not in (DRN_PACKAGE, f'{DRN_PACKAGE}.drn'):
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=name == DRN_PACKAGE)

    def exec_module(self, module):
        if module.__name__ == DRN_PACKAGE:
            return

        class DRN:
            """Placeholder for mmaction2's dense regression network; building raises ImportError."""

            def __init__(self, *args, **kwargs):
                raise ImportError(
                    'DRN is missing: the mmaction2 1.2.0 package was released without '
                    f'{DRN_PACKAGE} (open-mmlab/mmaction2 issue 2714); install mmaction2 from its '
                    'repository to use it'
                )

        import_module('mmaction.registry').MODELS.register_module(module=DRN)
        module.DRN = DRN


def provide_mmaction_drn() -> None:
    """Let ``import mmaction.models`` succeed with mmaction2 1.2.0, whose packages lack a folder.

    ``mmaction.models.localizers`` imports ``DRN`` from a module that the wheel and the sdist leave
    out (open-mmlab/mmaction2 issue 2714). Python asks the finder added here only after every other
    one, so a complete mmaction2 keeps its own module.
    """
    if not any(isinstance(finder, _MissingDRN) for finder in sys.meta_path):
        sys.meta_path.append(_MissingDRN())


# mmpretrain 1.2.0 and mmaction2 1.2.0 with new transformers ---------------------------------------


class _AfterImport(importlib.abc.MetaPathFinder):
    """Calls an action on a module right after it was imported the usual way."""

    def __init__(self, actions: dict[str, Callable[[types.ModuleType], None]]):
        self.actions = actions

    def find_spec(self, name, path=None, target=None):
        if name not in self.actions:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None:
            exec_module = spec.loader.exec_module

            def exec_then_act(module):
                exec_module(module)
                self.actions[name](module)

            spec.loader.exec_module = exec_then_act
        return spec


def _act_after_import(actions: dict[str, Callable[[types.ModuleType], None]]) -> None:
    """Do the actions now for modules that were imported already, for others when they will be."""
    done = {
        n for finder in sys.meta_path if isinstance(finder, _AfterImport) for n in finder.actions
    }
    actions = {name: action for name, action in actions.items() if name not in done}
    if actions:
        sys.meta_path.insert(0, _AfterImport(actions))
    for name in actions.keys() & sys.modules.keys():
        actions[name](sys.modules[name])


def _missing_names(names: dict[str, str]) -> list[str]:
    """Those of ``{module: 'name name ...'}`` that cannot be imported, as ``module.name``."""
    missing = []
    for module_name, attributes in names.items():
        try:
            module = import_module(module_name)
        except Exception:  # a package that fails in any way is as good as missing to who imports it
            missing.append(module_name)
            continue
        missing += [f'{module_name}.{a}' for a in attributes.split() if not _has(module, a)]
    return missing


def _has(module: types.ModuleType, attribute: str) -> bool:
    try:
        return getattr(module, attribute) is not None
    except Exception:  # transformers imports attributes lazily: a failing import shows only here
        return False


def _switch_multimodal_off(dependency: types.ModuleType) -> None:
    """Send the package of ``<package>.utils.dependency`` the way it goes without transformers."""
    package = dependency.__name__.split('.')[0]
    missing = _missing_names(MULTIMODAL_IMPORTS[package]) if dependency.WITH_MULTIMODAL else []
    if missing:
        dependency.WITH_MULTIMODAL = False
        version = getattr(sys.modules.get('transformers'), '__version__', 'of unknown version')
        warnings.warn(
            f"{package}'s multi-modal models are disabled, the rest of it works. They import "
            f'{", ".join(missing)}, missing here (transformers {version} is installed; the last '
            'one known to have all its names is 4.49.0).',
            stacklevel=2,
        )


def disable_broken_multimodal() -> None:
    """Keep ``import mmpretrain.models`` and ``import mmaction.models`` alive with transformers.

    mmpretrain 1.2.0 and mmaction2 1.2.0 import names that transformers 4.53 and later lack, and
    mmaction2 imports timm without asking for it. Both have a way of their own to go without
    transformers: placeholders that raise on use. This bridge sends them there if, and only if, a
    name they import is missing, and warns. transformers is imported only when they are about to.
    """
    packages = [name for name in MULTIMODAL_IMPORTS if f'{name}.models' not in sys.modules]
    names = [f'{name}.utils.dependency' for name in packages]
    _act_after_import(dict.fromkeys(names, _switch_multimodal_off))


# mmaction2 1.2.0, mmcv 2.1.0, mmdet 3.3.0, mmpretrain 1.2.0 with NumPy 2 --------------------------


class _NumPy(types.ModuleType):
    """NumPy, with the names that a module still asks for and NumPy has removed."""

    def __init__(self, removed: list[str]):
        super().__init__('numpy')
        vars(self).update({name: getattr(np, NUMPY_NAMES[name]) for name in removed})

    def __getattr__(self, name):
        return getattr(np, name)


def _give_removed_names(module: types.ModuleType) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # NumPy warns of a name that it has removed or will remove
        removed = [n for n in NUMPY_IMPORTS[module.__name__].split() if not hasattr(np, n)]
    if removed:
        module.np = _NumPy(removed)


def provide_removed_numpy_names() -> None:
    """Let OpenMMLab's modules use ``np.NAN``, ``np.Inf`` and others with a NumPy that has none.

    AVA's metric is one: a class without boxes raises AttributeError. Each module gets a NumPy of
    its own with the missing names; NumPy itself stays as it is, for whoever asks what it has.
    """
    _act_after_import(dict.fromkeys(NUMPY_IMPORTS, _give_removed_names))


# mmengine 0.10.7 with torch >= 2.6 ----------------------------------------------------------------


def _loads(value: object) -> bool:
    """Return whether ``torch.load(weights_only=True)`` reads back what ``torch.save`` wrote."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    buffer.seek(0)
    try:
        torch.load(buffer, weights_only=True)
    except Exception:
        return False
    return True


def _statistics_method(owner: type, name: str) -> Callable:
    """What a HistoryBuffer's pickle needs of ``getattr``, and no more: its own statistics."""
    if owner is not HistoryBuffer or name not in ('min', 'max', 'current', 'mean'):
        raise pickle.UnpicklingError(f'a checkpoint may not ask for {name!r} of {owner!r}')
    return getattr(owner, name)


def allow_checkpoint_classes() -> None:
    """Let mmengine 0.10.7 resume its own checkpoints under ``torch.load(weights_only=True)``.

    mmengine loads with torch's default, which since torch 2.6 refuses the message hub's
    ``HistoryBuffer`` and the NumPy arrays and scalars in it. They hold numbers and run no code, so
    they are added to torch's list. The buffer also names its statistics by ``getattr``, which is
    allowed for these alone. ``weights_only`` stays on, since a checkpoint may come from anybody.

    So are the options of a command line (``argparse.Namespace``), which the official checkpoints
    of MAE and VideoMAE hold: a list of names and values.
    """
    harmless = [HistoryBuffer([1.0], [1]), np.float64(1), np.float32(1), np.int64(1)]
    if _loads([*harmless, argparse.Namespace(lr=1.0)]):
        return
    reconstruct, scalar = np.zeros(1).__reduce__()[0], np.float64(0).__reduce__()[0]
    # NumPy 2 moved these two from numpy.core to numpy._core; a checkpoint has the writer's name.
    functions = [
        (function, f'numpy.{core}.multiarray.{function.__name__}')
        for function in (reconstruct, scalar)
        for core in ('core', '_core')
    ]
    dtypes = [type(np.dtype(name)) for name in ('float64', 'float32', 'int64')]
    torch.serialization.add_safe_globals(
        [
            HistoryBuffer,
            argparse.Namespace,
            (_statistics_method, 'builtins.getattr'),
            np.ndarray,
            np.dtype,
            *dtypes,
            *functions,
        ]
    )


# mmengine 0.10.7 ----------------------------------------------------------------------------------

# asked by every torch.load, since torch 2.0 and 2.6
FORCE_WEIGHTS_ONLY = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'
FORCE_NO_WEIGHTS_ONLY = 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'


@contextmanager
def _weights_only() -> Iterator[None]:
    """Within it, no ``torch.load`` runs code, whatever its caller passes or leaves out."""
    before = {
        name: os.environ.pop(name, None) for name in (FORCE_WEIGHTS_ONLY, FORCE_NO_WEIGHTS_ONLY)
    }
    os.environ[FORCE_WEIGHTS_ONLY] = '1'
    try:
        yield
    finally:
        del os.environ[FORCE_WEIGHTS_ONLY]
        os.environ.update({name: value for name, value in before.items() if value is not None})


def refuse_code_in_checkpoints() -> None:
    """Let mmengine 0.10.7 load nothing that could run code, wherever a checkpoint comes from.

    It leaves ``weights_only`` to torch, whose default is off before torch 2.6; and what comes over
    http(s) goes through ``torch.hub``, which switches it off in every release. All its loading
    (``load_from``, ``resume``, ``init_cfg``) passes ``CheckpointLoader.load_checkpoint``.
    """
    load = CheckpointLoader.load_checkpoint.__func__
    if getattr(load, 'refuses_code', False):
        return

    @functools.wraps(load)
    def load_checkpoint(cls, filename, map_location=None, logger='current'):
        try:
            with _weights_only():
                return load(cls, filename, map_location, logger)
        except pickle.UnpicklingError as error:
            raise pickle.UnpicklingError(
                f'checkpoint {filename} was not loaded: it is broken, or holds objects other than '
                f'tensors and numbers, which could run code when they are read ({error})'
            ) from error

    load_checkpoint.refuses_code = True
    CheckpointLoader.load_checkpoint = classmethod(load_checkpoint)


def _batches(loader: DataLoader) -> Iterator:
    yield from loader


def start_workers_with_the_first_batch() -> None:
    """Let mmengine 0.10.7's IterBasedTrainLoop start its data loader's workers when it needs them.

    It starts them when the loop is built, before hooks may replace the loader, as ExactResumeHook
    does: one set of workers, with a video decoder and two batches each, was made and thrown away.
    """
    if digit_version(mmengine.__version__) > digit_version('0.10.7'):
        return

    def __init__(self: _InfiniteDataloaderIterator, dataloader: DataLoader) -> None:
        self._dataloader = dataloader
        self._iterator = _batches(dataloader)
        self._epoch = 0

    _InfiniteDataloaderIterator.__init__ = __init__


# mmengine 0.10.7 with torch >= 2.1 ----------------------------------------------------------------


def order_fsdp_optimizer_state() -> None:
    """Let mmengine 0.10.7's FSDPStrategy resume an optimizer.

    It passes the state, the model and the optimizer to ``optim_state_dict_to_load``, which torch
    has taken in the order model, optimizer, state since 2.1: every resumed run fails.
    """
    parameters = list(
        inspect.signature(FullyShardedDataParallel.optim_state_dict_to_load).parameters
    )
    if digit_version(mmengine.__version__) > digit_version('0.10.7') or parameters[0] != 'model':
        return

    def load_optim_state_dict(self: FSDPStrategy, state_dict: dict) -> None:
        """As mmengine's, with the arguments by name."""
        state = FullyShardedDataParallel.optim_state_dict_to_load(
            model=self.model, optim=self.optim_wrapper.optimizer, optim_state_dict=state_dict
        )
        self.optim_wrapper.load_state_dict(state)

    FSDPStrategy.load_optim_state_dict = load_optim_state_dict
