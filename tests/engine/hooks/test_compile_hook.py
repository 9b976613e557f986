"""CompileHook: the same outputs and names, and blocks that are captured as a whole."""

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import nn

from bimm_mm.engine.hooks.compile_hook import CompileHook
from bimm_mm.models import BimmViT

DEMO = Path(__file__).parents[3] / 'configs/bimm/demo/joint_shapes.py'


class Count(list):
    """A backend that keeps the graphs it is given, and counts how often one is run."""

    runs = 0

    def __call__(self, graph, example_inputs):
        self.append(graph)

        def run(*inputs):
            self.runs += 1
            return graph(*inputs)

        return run


def runner_of(model):
    return SimpleNamespace(model=model, logger=logging.getLogger('test_compile'))


def test_compiled_blocks_give_the_same_features_gradients_and_names():
    torch.manual_seed(0)
    model = BimmViT(
        arch=dict(embed_dims=24, depth=3, num_heads=3), img_size=32, patch_size=8, out_type='raw'
    )
    x = torch.randn(2, 3, 32, 32)
    keep = torch.tensor([[0, 3, 7], [1, 2, 15]])
    names = list(model.state_dict())
    plain = model(x, keep)[0]
    plain.square().sum().backward()
    gradient = model.blocks[0].attn.qkv.weight.grad.clone()
    model.zero_grad()
    captured = Count()
    CompileHook(backend=captured).before_train(runner_of(model))
    compiled = model(x, keep)[0]
    compiled.square().sum().backward()
    assert len(captured) == 1  # one for the three blocks
    assert list(model.state_dict()) == names
    torch.testing.assert_close(compiled, plain, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model.blocks[0].attn.qkv.weight.grad, gradient, rtol=1e-5, atol=1e-4)


def test_blocks_that_differ_in_drop_path_are_all_compiled():
    """Each may be a version of its own of the same code, of which torch keeps 8 by default."""
    model = BimmViT(
        arch=dict(embed_dims=24, depth=12, num_heads=3),
        img_size=32,
        patch_size=8,
        stage_ends=(2, 4, 12),
        drop_path_rate=0.2,
    ).train()
    captured = Count()
    CompileHook(backend=captured).before_train(runner_of(model))
    model(torch.randn(2, 3, 32, 32))
    assert captured.runs == 12


def test_whole_branches_give_the_same_losses_and_gradients_and_so_does_a_second_step():
    def step(model):
        torch.manual_seed(1)
        loss, _ = model.parse_losses(model(torch.ones(2, 3, 8, 32, 32), mode='loss'))
        model.zero_grad()
        loss.backward()
        return loss, model.ventral.backbone.blocks[0].attn.qkv.weight.grad.clone()

    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile(DEMO).model).train()
    plain, plain_again = step(model), step(model)
    captured = Count()
    hook = CompileHook('branches', backend=captured)
    hook.before_train(runner_of(model))
    hook.before_train_iter(runner_of(model), 0)
    torch.testing.assert_close(step(model), plain, rtol=1e-5, atol=1e-5)
    seen = len(captured)
    torch.testing.assert_close(step(model), plain_again, rtol=1e-5, atol=1e-5)
    # blocks that both branches share, once for each; and nothing is compiled again
    assert seen == len(captured) and captured.runs >= 8


def test_parts_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match="part='encoder' must be one of blocks, branches"):
        CompileHook('encoder')
    with pytest.raises(ValueError, match='no branches'):
        CompileHook('branches').before_train(runner_of(nn.Linear(2, 2)))


def test_a_model_without_our_blocks_is_refused():
    with pytest.raises(ValueError, match='no TransformerBlock'):
        CompileHook().before_train(runner_of(nn.Linear(2, 2)))
