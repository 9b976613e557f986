"""The GPU computes what the CPU does: targets, blocks, short cuts, compiled code and graphs."""

import copy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from bimm_mm.engine.hooks.compile_hook import CompileHook
from bimm_mm.models.layers import TransformerBlock
from bimm_mm.models.targets import EdgeContourTarget, GaborTarget, MotionTarget, PixelTarget

pytestmark = pytest.mark.gpu
DEMO = Path(__file__).parents[2] / 'configs/bimm/demo/joint_shapes.py'
TARGETS = (GaborTarget, EdgeContourTarget, MotionTarget, PixelTarget)


@pytest.fixture(autouse=True)
def exact():
    """Products and convolutions in float32."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision('highest')
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


@pytest.mark.parametrize('kind', TARGETS)
def test_targets_are_those_of_the_cpu(kind, device, rehearsal):
    torch.manual_seed(0)
    size = 32 if rehearsal else 224
    target = kind(patch_size=(2, 16, 16))
    x = torch.randn(2, 3, 4, size, size)
    tokens = 2 * (size // 16) ** 2
    ids = torch.stack([torch.randperm(tokens)[: tokens // 2] for _ in range(2)])
    on_cpu = target(x, ids)
    there = copy.deepcopy(target).to(device)(x.to(device), ids.to(device)).cpu()
    # an edge at its threshold may fall to either side
    apart = (on_cpu.float() - there.float()).abs() > 1e-3
    assert apart.float().mean() < 1e-3


def test_gabor_features_in_tf32_are_near_those_of_the_cpu(device, rehearsal):
    torch.backends.cudnn.allow_tf32 = True  # as torch has it
    torch.manual_seed(0)
    size = 32 if rehearsal else 224
    target, x = GaborTarget(patch_size=(2, 16, 16)), torch.randn(2, 3, 4, size, size)
    on_cpu = target(x, None)
    there = copy.deepcopy(target).to(device)(x.to(device), None).cpu()
    assert (there - on_cpu).norm() / on_cpu.norm() < 2e-3


@pytest.mark.parametrize('dtype, tolerance', [(None, 1e-4), (torch.bfloat16, 5e-2)])
def test_blocks_give_what_they_give_on_the_cpu_and_so_do_their_gradients(dtype, tolerance, device):
    torch.manual_seed(0)
    block, x = TransformerBlock(96, 3), torch.randn(2, 65, 96)
    results = []
    for where, precision in ((torch.device('cpu'), None), (device, dtype)):
        twin = copy.deepcopy(block).to(where)
        with torch.autocast(where.type, precision, enabled=precision is not None):
            y, last = twin(x.to(where)), twin(x.to(where), last=9)
        y.float().square().mean().backward()
        results.append([y, last, twin.attn.qkv.weight.grad])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b.float().cpu(), rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(results[1][0][:, -9:], results[1][1], rtol=tolerance, atol=tolerance)


def joint_losses(device, steps=3, **options):
    """Losses of steps of the demo's joint model, compiled or not."""
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile(DEMO).model).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    runner = type('Run', (), dict(model=model, logger=type('L', (), dict(info=print))))
    hook = CompileHook(**options) if options else None
    if hook:
        hook.before_train(runner)
    x, losses = torch.randn(4, 3, 8, 32, 32, device=device), []
    for step in range(steps):
        if hook:
            hook.before_train_iter(runner, step)
        torch.manual_seed(step)
        loss, _ = model.parse_losses(model(x, mode='loss'))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize(
    'options',
    [
        dict(part='blocks'),
        dict(part='branches'),
        dict(part='blocks', mode='reduce-overhead'),
        dict(part='branches', mode='reduce-overhead'),
    ],
    ids=lambda options: ' '.join(options.values()),
)
def test_compiled_models_and_graphs_train_as_plain_ones(options, device, rehearsal):
    plain = joint_losses(device)
    if rehearsal:  # the compiler itself takes minutes on a CPU
        options = dict(part=options['part'], backend='aot_eager')
    assert joint_losses(device, **options) == pytest.approx(plain, rel=2e-3)
