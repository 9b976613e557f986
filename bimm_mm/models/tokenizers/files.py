"""Weights of tokenizers, read from the files in which they were published, without running code.

OpenAI published the dVAE of DALL·E as a pickled module, and taming-transformers its VQGANs as
checkpoints of PyTorch Lightning, which hold pickled objects beside the weights. torch refuses both
where ``weights_only`` is on, and runs whatever code they name where it is off. Here an unpickler
puts an inert :class:`StandIn` in the place of each class and function that a file names, except
for the three that rebuild tensors.
"""

import hashlib
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from ...utils.checkpoint import read_weights

# what may be called while a file is read: it makes tensors and dicts, and cannot do anything else
HARMLESS = {
    ('collections', 'OrderedDict'): OrderedDict,
    ('torch._utils', '_rebuild_tensor_v2'): torch._utils._rebuild_tensor_v2,
    ('torch._utils', '_rebuild_parameter'): torch._utils._rebuild_parameter,
}


class StandIn:
    """Takes the place of an object in a pickle: it keeps the state and does nothing."""

    state: object = None

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def __new__(cls, *args: object, **kwargs: object) -> 'StandIn':
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        self.state = state

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def append(self, value: object) -> None:
        """Ignore the items of a list that is not a plain one."""

    def extend(self, values: object) -> None:
        """Ignore the items of a list that is not a plain one."""

    def __call__(self, *args: object, **kwargs: object) -> 'StandIn':
        return self


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        known = HARMLESS.get((module, name))
        return known or type(name.rpartition('.')[2], (StandIn,), {'__module__': module})


def _load(file, **kwargs: object) -> object:
    return _Unpickler(file, **kwargs).load()


# what torch.load asks of a module of that name
_PICKLE = SimpleNamespace(
    __name__='bimm_mm.models.tokenizers.files', Unpickler=_Unpickler, load=_load
)


def read_tensors(path: str | os.PathLike) -> dict[str, Tensor]:
    """All tensors of a model in a file or folder, without running code.

    Args:
        path: A ``.safetensors`` file or a folder with one; a file of ``torch.save`` with a state
            dict, a checkpoint of PyTorch Lightning, or a pickled ``nn.Module``.

    Returns:
        Tensors by name, on the CPU.

    Raises:
        FileNotFoundError: If there is no such file, or no ``*.safetensors`` in the folder.
        ValueError: If the file is broken or holds no tensors.
    """
    path = Path(path)
    if path.is_dir() or path.suffix == '.safetensors':
        return read_weights(path)[0]
    if not path.is_file():
        raise FileNotFoundError(f'no file {path.absolute()}')
    state = _read_pickle(path)
    if not state:
        raise ValueError(f'{path} holds no weights of a model')
    return state


def _read_pickle(path: Path) -> dict[str, Tensor]:
    # torch.load would run a TorchScript archive, which is a zip file with a folder "code"
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(name.split('/')[1:2] == ['code'] for name in archive.namelist()):
                raise ValueError(f'{path} is a TorchScript archive, which holds code')
    try:
        content = torch.load(path, map_location='cpu', pickle_module=_PICKLE, weights_only=False)
    except Exception as error:  # whatever an unpickler does with bytes that are not a pickle
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f'{path} is not a file of weights, or broken: {reason[0]}') from error
    if isinstance(content, dict) and isinstance(content.get('state_dict'), dict):
        content = content['state_dict']
    if isinstance(content, StandIn):
        return dict(_tensors_of(content, ''))
    if not isinstance(content, dict):
        return {}
    return {str(k): v.detach() for k, v in content.items() if isinstance(v, Tensor)}


def _tensors_of(module: StandIn, prefix: str):
    """The parameters and buffers of a pickled ``nn.Module``, by name."""
    state = module.state if isinstance(module.state, dict) else {}
    for kind in ('_parameters', '_buffers'):
        for name, value in (state.get(kind) or {}).items():
            if isinstance(value, Tensor):
                yield prefix + name, value.detach()
    for name, child in (state.get('_modules') or {}).items():
        if isinstance(child, StandIn):
            yield from _tensors_of(child, f'{prefix}{name}.')


def file_checksum(path: str | os.PathLike) -> str:
    """SHA-256 of a file, or of the ``*.safetensors`` of a folder, in hexadecimal digits."""
    path = Path(path)
    digest = hashlib.sha256()
    for part in sorted(path.glob('*.safetensors')) if path.is_dir() else [path]:
        with open(part, 'rb') as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def check_file(path: str | os.PathLike | None, sha256: str | None, name: str, source: str) -> None:
    """Check that the weights of a tokenizer are there, and that they are the right ones.

    Args:
        path: The argument ``checkpoint``.
        sha256: The checksum that it must have; not compared when left out.
        name: Of the tokenizer, for the message.
        source: Where the weights can be had, for the message.

    Raises:
        FileNotFoundError: If there is no such file or folder.
        ValueError: If ``path`` is missing, or the checksum differs.
    """
    if not path:
        raise ValueError(f'{name} needs checkpoint=, a local file; {source}')
    if not Path(path).exists():
        raise FileNotFoundError(f'{name}: no checkpoint {os.path.abspath(path)}; {source}')
    if sha256 is not None:
        found = file_checksum(path)
        if found != sha256.lower():
            raise ValueError(
                f'{name}: checkpoint {path} has the SHA-256 {found}, but sha256={sha256!r}: it is '
                f'another file, or was not downloaded completely; {source}'
            )


def load_strictly(network: nn.Module, state: dict[str, Tensor], path: str | os.PathLike) -> None:
    """Load weights that must fit one by one.

    Raises:
        ValueError: If a weight is missing, unknown or of another shape.
    """
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reasons = [line.strip() for line in str(error).splitlines()[1:4]]
        raise ValueError(f'{path} does not fit the tokenizer: {" ".join(reasons)[:400]}') from error
