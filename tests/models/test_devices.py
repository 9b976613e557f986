"""On a GPU, the forward pass and the losses stay on it, and nothing waits: shown without one.

torch's fake tensors have a device, a type and a shape, but no values. Operators refuse inputs of
different devices, and whatever needs a value on the host, and so waits for the device, is an error.
A backward pass cannot be run so without a GPU.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn
from torch._subclasses import FakeTensorMode
from torch._subclasses.fake_tensor import DataDependentOutputException
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class OnTheHost(TorchDispatchMode):
    """Collects the operators that read or write tensors of the CPU: ``calls``."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        result = operator(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves((args, kwargs, result)) if isinstance(x, torch.Tensor)]
        on_cpu = any(x.device.type == 'cpu' for x in tensors)
        if on_cpu and operator is not torch.ops.prim.device.default:
            self.calls.append(str(operator))
        return result


@contextmanager
def on_a_pretended_gpu(model: nn.Module) -> Iterator[OnTheHost]:
    """Within, parameters and buffers of ``model`` are fakes on a GPU."""
    with FakeTensorMode():
        fakes = {}
        for module in model.modules():
            for tensors in (module._parameters, module._buffers):
                for name, tensor in tensors.items():
                    if tensor is None:
                        continue
                    if tensor not in fakes:  # else of a block that serves both branches
                        fake = torch.empty(tensor.shape, dtype=tensor.dtype, device='cuda')
                        learned = isinstance(tensor, nn.Parameter)
                        fakes[tensor] = nn.Parameter(fake) if learned else fake
                    tensors[name] = fakes[tensor]
        with OnTheHost() as host:
            yield host


CONFIGS = Path('configs')
CLIP = (3, 16, 224, 224)


def recipes():
    """Every pretraining recipe of a ViT-B."""
    found = sorted(CONFIGS.glob('*/*_vitb*.py'))
    models = {str(path.relative_to(CONFIGS)): Config.fromfile(path).model for path in found}
    kinds = ('SingleBranchPretrainer', 'DualBranchPretrainer', 'MaskedPretrainer')
    # BEVT's way draws the length of a span on the host, without waiting, which fake tensors refuse;
    # VIMPAC's asks the device once per step how many tokens its blocks have masked
    # the guides of MGMAE and TGM are networks of their own, in files
    left_out = ('bevt', 'vimpac', 'mgmae', 'tgm')
    return [path for path, m in models.items() if m.type in kinds and not path.startswith(left_out)]


def build(config, overrides):
    """The model of a recipe, of a narrow encoder, and the shape of its samples."""
    cfg = Config.fromfile(CONFIGS / config)
    init_default_scope(cfg.default_scope)
    channels, size = 3, [224, 224]
    branches = {name: cfg.model[name] for name in ('ventral', 'dorsal') if name in cfg.model}
    for name, branch in (branches or dict(dorsal=cfg.model)).items():
        branch.pop('tokenizer', None)  # reads a file
        if branch.backbone.type == 'BimmViT':
            branch.backbone.arch = dict(embed_dims=48, depth=12, num_heads=3)
        branch.merge(overrides)
        channels = 4 if 'CachedContourTarget' in str(branch.targets) else channels
        size = [16, 224, 224] if name == 'dorsal' else size
    return MODELS.build(cfg.model).train(), (channels, *size)


@pytest.fixture
def autocast(monkeypatch):
    """bfloat16 autocast of a GPU, which torch refuses where there is none."""
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda *args, **kwargs: True)
    monkeypatch.setattr(torch.cuda.amp.common, 'amp_definitely_not_available', lambda: False)
    return torch.autocast('cuda', torch.bfloat16)


@pytest.mark.parametrize(
    'config, overrides',
    [
        *((config, {}) for config in recipes()),
        ('bimm/joint_k400_vitb.py', dict(decode_ratio=0.5)),
        ('bimm/joint_k400_vitb.py', dict(backbone=dict(drop_path_rate=0.1))),
    ],
)
def test_the_losses_neither_wait_nor_leave_the_device(config, overrides, autocast):
    model, shape = build(config, overrides)
    with on_a_pretended_gpu(model) as host:
        inputs = torch.randn(2, *shape, device='cuda')
        with autocast:
            side = dict(contours=inputs[:, 3:]) if shape[0] == 4 else {}
            side['codes'] = torch.zeros(2, 16, 14, 14, dtype=torch.long, device='cuda')
            losses = model(inputs[:, :3], mode='loss', **side)
            loss, logged = model.parse_losses(losses)
    assert loss.device.type == 'cuda' and loss.requires_grad
    assert {value.device.type for value in logged.values()} == {'cuda'}
    assert not host.calls


def test_samples_reach_the_device_as_they_left_the_workers():
    """As uint8, and not by way of the host's memory, where they would not be pinned."""
    model, _ = build('bimm/joint_k400_vitb_edge.py', {})
    preprocessor = model.data_preprocessor
    preprocessor._device = torch.device('cuda')  # as after to('cuda')
    with on_a_pretended_gpu(model) as host:
        samples = [torch.empty(CLIP, dtype=torch.uint8) for _ in range(3)]
        host.calls.clear()
        batch = preprocessor(dict(inputs=samples))['inputs']
    assert (batch.shape, batch.device.type, batch.dtype) == ((3, *CLIP), 'cuda', torch.float32)
    assert host.calls == ['aten._to_copy.default'] * 3


def test_these_tests_can_fail(autocast):
    waits, strays = nn.Linear(2, 2), nn.Linear(2, 2)
    with on_a_pretended_gpu(waits), pytest.raises(DataDependentOutputException):
        waits(torch.ones(1, 2, device='cuda')).sum().item()
    with on_a_pretended_gpu(strays), pytest.raises(RuntimeError, match='device'):
        strays(torch.ones(1, 2))
    half = nn.Linear(2, 2)
    with on_a_pretended_gpu(half) as host, autocast:
        assert half(torch.ones(1, 2, device='cuda')).dtype == torch.bfloat16
    assert not host.calls
    with on_a_pretended_gpu(nn.Linear(2, 2)) as host:
        torch.tensor([1, 2]).to('cuda')
    assert host.calls
